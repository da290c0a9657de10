//! Compactions without a database, as pictures: levels, snapshots, and what a job makes of them.
//!
//! A line `L1: a@1 b@2` is a table of level 1 with these entries; of level 0 the newest is on top. `snapshots 4 20` are the
//! frozen ones, the visible number last. `pick` runs the next automatic job, with two files of level 0 due; `compact a-z`
//! all steps by hand. The answer has each job, the readers that may change over to its result, and the levels.

use std::fmt::Write as _;

use firndb_testkit::text;

use super::*;
use crate::compaction::claims::Claims;
use crate::compaction::picker::{Next, Picker, View};
use crate::compaction::styles::CompactionPri;
use crate::flush::{self, FlushContext, FlushJob, Reached};
use crate::format::key::SequenceNumber;
use crate::fs::{Fault, FaultEffect, FsOp};
use crate::iter::testing::{Entry, show};
use crate::superversion::testing::{DIR, Lab, frozen, path_of};

const LEVELS: usize = 4;

fn picker() -> Picker {
    Picker::Leveled(LevelConfig {
        num_levels: LEVELS,
        level0_trigger: 2,
        base_bytes: 1 << 30,
        multiplier: 10.0,
        target_file_size: 1 << 20,
        dynamic_level_bytes: false,
        pri: CompactionPri::default(),
        ttl_s: 0,
        period_s: 0,
        blobs: None,
    })
}

fn context(lab: &Lab) -> CompactionContext {
    CompactionContext {
        fs: Arc::new(lab.fs.clone()),
        dir: DIR.into(),
        clock: Arc::clone(&lab.clock) as _,
        rate_limiter: None,
        versions: Arc::clone(&lab.versions),
        tables: Arc::clone(&lab.tables),
        statistics: Arc::default(),
        table: TableConfig::default(),
        blobs: None,
        levels: picker().levels().clone(),
        filter: None,
    }
}

/// Makes a table by a flush that keeps everything, and moves it to its level.
fn add_table(lab: &Lab, level: u32, entries: &[Entry]) {
    lab.fill_memtable(entries);
    let context = context(lab);
    let flush = FlushContext {
        fs: context.fs,
        dir: context.dir,
        clock: context.clock,
        rate_limiter: None,
        versions: context.versions,
    };
    let everything =
        FrozenSnapshots { sequences: vec![SequenceNumber::MAX], newest_snapshot: None, keeps_everything: true };
    let job = FlushJob::pick(&lab.family).expect("it is full");
    let output = job.run(&flush, context.table.into(), None, &everything, &CancelToken::default()).expect("written");
    let number = output.file.expect("it has entries");
    let reached = Reached { last_sequence: None, needed_log: FileNumber(0) };
    flush::install(&lab.versions, vec![output], Vec::new(), reached).expect("installed");
    let meta = lab.version().file(number).expect("installed").1.meta.clone();
    let edit =
        VersionEdit { deleted_files: vec![(0, number)], new_files: vec![(level, meta)], ..VersionEdit::default() };
    let publish = |lab: &Lab, versions: &[(_, Arc<Version>)]| lab.family.install_version(Arc::clone(&versions[0].1));
    lab.versions.log_and_apply(vec![edit], |versions| publish(lab, versions)).map_err(Error::from).expect("moved");
}

fn levels(lab: &Lab) -> String {
    let version = lab.version();
    let lines = version.files().map(|(level, file)| format!("L{level}: {}\n", show(&lab.entries(file))));
    lines.collect()
}

/// Runs and installs a job; says what it did.
fn run_one(lab: &Lab, job: &Compaction, snapshots: &[u64]) -> String {
    let output = run(&context(lab), &lab.family, job, &frozen(snapshots), &CancelToken::default()).expect("it runs");
    let may = (0..=snapshots.last().map_or(0, |last| last + 1))
        .filter(|reader| output.edit.lineage.is_equivalent_for(SequenceNumber(*reader)))
        .map(|reader| reader.to_string());
    let may: Vec<String> = may.collect();
    let output = install(&context(lab), &lab.family, output).expect("installed");
    let verb = if output.is_trivial_move { "move" } else { "merge" };
    let inputs: Vec<String> = job.inputs.iter().map(|(level, files)| format!("{} of L{level}", files.len())).collect();
    let (read, written) = (output.entries_read, output.entries_written);
    let counts = if output.is_trivial_move { String::new() } else { format!(", {read} read, {written} written") };
    let (inputs, level, may) = (inputs.join(" + "), output.output_level, may.join(" "));
    format!("{verb} {inputs} -> L{level}{counts}\nreaders {may}\n")
}

fn answer(question: &str) -> String {
    let (lab, picker) = (Lab::new(LEVELS), picker());
    let (mut tables, mut snapshots, mut out) = (Vec::new(), vec![100u64], String::new());
    for line in question.lines() {
        if let Some((level, entries)) = line.strip_prefix('L').and_then(|rest| rest.split_once(':')) {
            tables.push((level.parse::<u32>().expect("a level"), Entry::parse_all(entries)));
            continue;
        }
        if let Some(numbers) = line.strip_prefix("snapshots ") {
            snapshots = numbers.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            continue;
        }
        // The oldest first, as they came.
        tables.drain(..).rev().for_each(|(level, entries)| add_table(&lab, level, &entries));
        let (claims, oldest_snapshot) = (Claims::default(), SequenceNumber(snapshots[0]));
        match line.split_once(' ').unwrap_or((line, "")) {
            ("pick", _) => {
                let version = lab.version();
                let job = picker.pick(&View::of(&version, &claims, oldest_snapshot));
                out += &job.map_or("nothing\n".to_owned(), |job| run_one(&lab, &job, &snapshots));
            }
            ("compact", range) => {
                let range = range.split_once('-').map(|(begin, end)| (Some(begin.as_bytes()), Some(end.as_bytes())));
                let (last, first_new) =
                    (SequenceNumber(*snapshots.last().expect("one")), lab.versions.new_file_number());
                let mut manual =
                    picker.begin_manual(&lab.version(), range.expect("a-z"), last, first_new, Default::default());
                loop {
                    let version = lab.version();
                    match picker.next_manual(&mut manual, &View::of(&version, &claims, oldest_snapshot)) {
                        Next::Run(job) => {
                            out += &run_one(&lab, &job, &snapshots);
                            manual.done(&job);
                        }
                        Next::Done => break,
                        Next::Blocked(number) => writeln!(out, "blocked by {number}").expect("memory"),
                    }
                }
            }
            other => panic!("no such question: {other:?}"),
        }
        out += &levels(&lab);
    }
    out
}

#[test]
fn jobs() {
    text::check(concat!(env!("CARGO_MANIFEST_DIR"), "/src/compaction/testdata/jobs.txt"), answer);
}

/// Two tables of level 0 over one of level 1, and the job that is due.
fn due() -> (Lab, Compaction) {
    let lab = Lab::new(LEVELS);
    for (level, entries) in [(1, "a@1 b@2 c@3"), (0, "a@4 c@5del"), (0, "b@6 d@7")] {
        add_table(&lab, level, &Entry::parse_all(entries));
    }
    let version = lab.version();
    let claims = Claims::default();
    let view = View::of(&version, &claims, SequenceNumber(9));
    let job = picker().pick(&view).expect("two files of level 0 are due");
    (lab, job)
}

#[test]
fn a_job_that_fails_or_is_called_off_removes_its_outputs_and_has_changed_nothing() {
    let (lab, job) = due();
    let before = (lab.files(), levels(&lab));
    let try_once = |cancel: &CancelToken| run(&context(&lab), &lab.family, &job, &frozen(&[9]), cancel);
    for op in [FsOp::Create, FsOp::Append, FsOp::Sync, FsOp::SyncDir] {
        let pattern = if op == FsOp::SyncDir { "*" } else { "*.sst" };
        lab.fs.inject(Fault::on(op, pattern, FaultEffect::Eio));
        assert_eq!(try_once(&CancelToken::default()).expect_err("the disk fails").kind(), ErrorKind::Io, "{op:?}");
        lab.fs.clear_faults();
        assert_eq!((lab.files(), levels(&lab)), before, "{op:?}");
    }
    let cancel = CancelToken::default();
    cancel.cancel();
    assert_eq!(try_once(&cancel).expect_err("called off").kind(), ErrorKind::Cancelled);
    assert_eq!((lab.files(), levels(&lab)), before);
    // The same job, with a disk that works.
    let output = try_once(&CancelToken::default()).expect("it runs");
    install(&context(&lab), &lab.family, output).expect("installed");
    assert_eq!(levels(&lab), "L1: a@0=4 b@0=6 d@0=7\n");
}

#[test]
fn damage_in_an_input_is_named_and_nothing_is_written() {
    let (lab, job) = due();
    let number = job.files().last().expect("the input of level 1").1.number();
    lab.fs.damage(&path_of(number), |bytes| bytes[10] ^= 1).expect("it is there");
    let before = lab.files();
    let error = run(&context(&lab), &lab.family, &job, &frozen(&[9]), &CancelToken::default()).expect_err("damage");
    assert_eq!(error.corruption().and_then(|what| what.file.clone()), Some(path_of(number)), "{error}");
    assert_eq!(lab.files(), before);
}

#[test]
fn an_edit_that_does_not_fit_any_more_removes_the_outputs_and_an_unknown_outcome_keeps_them() {
    let (lab, job) = due();
    let run = || run(&context(&lab), &lab.family, &job, &frozen(&[9]), &CancelToken::default()).expect("it runs");
    let (first, second) = (run(), run());
    install(&context(&lab), &lab.family, first).expect("installed");
    let files = lab.files().len();
    // Its inputs are in no version any more.
    assert_eq!(install(&context(&lab), &lab.family, second).expect_err("too late").kind(), ErrorKind::Internal);
    assert_eq!(lab.files().len(), files - 1);
    let (lab, job) = due();
    let (before, files) = (levels(&lab), lab.files().len());
    let output = super::run(&context(&lab), &lab.family, &job, &frozen(&[9]), &CancelToken::default()).expect("runs");
    lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST*", FaultEffect::Eio));
    install(&context(&lab), &lab.family, output).expect_err("outcome unknown");
    assert_eq!((lab.files().len(), levels(&lab)), (files + 1, before));
}
