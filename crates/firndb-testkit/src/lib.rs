//! Crash and fault file systems, models and generators for FirnDB's own tests.
