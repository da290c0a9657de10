//! Scenarios: how readers, files and failures meet, each told as a test of the whole database.
//!
//! The first three modules are the bug histories of other engines (their ids are those of the design's list of
//! scenarios); the others hold the promises that readers, closing and background errors touch to their words.

mod amplification;
mod around;
mod blobs;
mod bounded;
mod by_hand;
mod closing;
mod damaged_logs;
mod descriptors;
mod errors;
mod failed_changes;
mod filters;
mod indexed;
mod lab;
mod life;
mod limits;
mod listeners;
mod live_files;
mod lost;
mod manifest;
mod merges;
mod options;
mod panics;
mod pins;
mod ranges;
mod read_only;
mod recovery;
mod single_deletes;
mod space;
mod stress;
mod styles;
mod views;
mod waits;
