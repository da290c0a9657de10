//! Flushes without a database: full memtables in memory, a set of versions, and a disk that fails on command.

use super::*;
use crate::error::ErrorKind;
use crate::fs::{Fault, FaultEffect, FsOp};
use crate::iter::testing::{Entry, show};
use crate::superversion::testing::{DIR, Lab, frozen};

fn context(lab: &Lab) -> FlushContext {
    FlushContext {
        fs: Arc::new(lab.fs.clone()),
        dir: DIR.into(),
        clock: Arc::clone(&lab.clock) as _,
        rate_limiter: None,
        versions: Arc::clone(&lab.versions),
    }
}

fn full() -> Lab {
    let lab = Lab::new(3);
    lab.fill_memtable(&Entry::parse_all("a@1 b@2 c@3"));
    lab.fill_memtable(&Entry::parse_all("a@4 b@5del"));
    lab
}

fn reached() -> Reached {
    Reached { last_sequence: None, needed_log: FileNumber(0) }
}

#[test]
fn memtables_become_one_table_and_go_with_its_installation() {
    let lab = full();
    let job = FlushJob::pick(&lab.family).expect("two are full");
    let output = job
        .run(&context(&lab), TableConfig::default().into(), None, &frozen(&[1, 9]), &CancelToken::default())
        .expect("written");
    assert!(lab.version().files().next().is_none(), "nothing is installed yet");
    // A reader at a snapshot may change over, and one above all entries; one in between may not.
    let may = |sequence| output.edit.lineage.is_equivalent_for(SequenceNumber(sequence));
    assert_eq!([0, 1, 2, 4, 5, 9].map(may), [true, true, false, false, true, true]);
    let done = install(&lab.versions, vec![output], Vec::new(), reached()).expect("installed");
    assert_eq!((done[0].entries_read, done[0].entries_written), (5, 4));
    let version = lab.version();
    let (level, file) = version.files().next().expect("the table");
    // A flush drops no tombstone, and the number of what it keeps stays.
    assert_eq!((level, show(&lab.entries(file))), (0, "a@4 a@1 b@5del c@3".to_owned()));
    assert!(lab.family.load_full().immutables.is_empty());
    assert!(FlushJob::pick(&lab.family).is_none());
}

#[test]
fn a_flush_that_fails_or_is_called_off_leaves_nothing_behind_and_can_be_tried_again() {
    let lab = full();
    let try_once = |cancel: &CancelToken| {
        let job = FlushJob::pick(&lab.family).expect("two are full");
        job.run(&context(&lab), TableConfig::default().into(), None, &frozen(&[9]), cancel)
    };
    for op in [FsOp::Create, FsOp::Append, FsOp::Sync, FsOp::SyncDir] {
        let pattern = if op == FsOp::SyncDir { "*" } else { "*.sst" };
        lab.fs.inject(Fault::on(op, pattern, FaultEffect::Eio));
        assert_eq!(try_once(&CancelToken::default()).expect_err("the disk fails").kind(), ErrorKind::Io, "{op:?}");
        assert!(lab.files().is_empty() && lab.version().files().next().is_none(), "{op:?}");
        lab.fs.clear_faults();
    }
    let cancel = CancelToken::default();
    cancel.cancel();
    assert_eq!(try_once(&cancel).expect_err("called off").kind(), ErrorKind::Cancelled);
    assert!(lab.files().is_empty());
    let output = try_once(&CancelToken::default()).expect("the disk works");
    install(&lab.versions, vec![output], Vec::new(), reached()).expect("installed");
    assert_eq!((lab.files().len(), lab.version().file_count()), (1, 1));
}

#[test]
fn a_table_whose_edit_may_have_been_written_stays() {
    let lab = full();
    let job = FlushJob::pick(&lab.family).expect("two are full");
    let output = job
        .run(&context(&lab), TableConfig::default().into(), None, &frozen(&[9]), &CancelToken::default())
        .expect("written");
    lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST*", FaultEffect::Eio));
    install(&lab.versions, vec![output], Vec::new(), reached()).expect_err("outcome unknown");
    assert_eq!((lab.files().len(), lab.version().file_count()), (1, 0));
    assert_eq!(lab.family.load_full().immutables.len(), 2);
}
