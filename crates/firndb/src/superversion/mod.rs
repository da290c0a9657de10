//! superversion
