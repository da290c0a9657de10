//! Scenarios: how readers, files and failures meet, each told as a test of the whole database.
//!
//! The first three modules are the bug histories of other engines (their ids are those of the design's list of
//! scenarios); the others hold the promises that readers, closing and background errors touch to their words.

mod closing;
mod damaged_logs;
mod errors;
mod failed_changes;
mod lab;
mod life;
mod listeners;
mod lost;
mod manifest;
mod options;
mod pins;
mod read_only;
mod recovery;
mod stress;
mod styles;
mod views;
