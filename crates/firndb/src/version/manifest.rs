//! Reading and writing MANIFEST files.
