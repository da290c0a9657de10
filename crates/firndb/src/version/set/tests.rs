//! The version set on a file system that loses power and fails on command.

mod oracle;
mod pictures;

use std::path::Path;

use super::hold::Piece;
use super::*;
use crate::clock::ManualClock;
use crate::format::key::internal_key;
use crate::fs::{CrashPolicy, CreateMode, Fault, FaultEffect, FsOp, MemoryFs};
use crate::version::edit::FileMeta;

const DIR: &str = "/db";
const DEFAULT: ColumnFamilyId = ColumnFamilyId::DEFAULT;

fn config(fs: &MemoryFs) -> VersionSetConfig {
    VersionSetConfig {
        fs: Arc::new(fs.clone()),
        dir: DIR.into(),
        clock: Arc::new(ManualClock::new(1)),
        levels: 7,
        manifest_bytes_max: 1 << 20,
    }
}

fn new_fs() -> MemoryFs {
    let fs = MemoryFs::new();
    fs.create_dir_all(DIR.as_ref()).expect("a directory");
    fs
}

fn create(fs: &MemoryFs) -> VersionSet {
    VersionSet::create(config(fs), KeyOrder::Bytewise).expect("a new database")
}

fn recover(fs: &MemoryFs) -> Result<VersionSet> {
    VersionSet::recover(config(fs), false, &|_, _| None).map(|(set, _)| set)
}

fn meta(number: FileNumber, from: &str, to: &str, seq: u64) -> FileMeta {
    FileMeta {
        number,
        size: 1000,
        smallest: internal_key(from.as_bytes(), SequenceNumber(seq), 1),
        largest: internal_key(to.as_bytes(), SequenceNumber(seq), 1),
        smallest_seq: SequenceNumber(seq),
        largest_seq: SequenceNumber(seq),
        ..FileMeta::default()
    }
}

fn flush_edit(number: FileNumber, seq: u64) -> VersionEdit {
    VersionEdit {
        log_number: Some(FileNumber(seq)),
        last_sequence: Some(SequenceNumber(seq)),
        new_files: vec![(0, meta(number, "a", "z", seq))],
        ..VersionEdit::default()
    }
}

/// Writes an empty table file durably, as a flush would, and logs it.
fn flush(fs: &MemoryFs, set: &VersionSet, seq: u64) -> Result<FileNumber> {
    let output = set.new_output();
    let file = fs.create(&Path::new(DIR).join(file_name::table(output.number())), CreateMode::New)?;
    file.sync_data()?;
    fs.sync_dir(DIR.as_ref())?;
    set.log_and_apply(vec![flush_edit(output.number(), seq)], |_| {})?;
    Ok(output.number())
}

fn manifests(fs: &MemoryFs) -> usize {
    fs.paths().iter().filter(|path| path.to_string_lossy().contains("MANIFEST")).count()
}

fn numbers(set: &VersionSet) -> Vec<u64> {
    let version = set.current(DEFAULT).expect("the default family");
    let mut numbers: Vec<u64> = version.files().map(|(_, file)| file.number().0).collect();
    numbers.sort_unstable();
    numbers
}

/// Policies that keep what a file system with ordered appends keeps; the others may turn the tail into garbage.
fn is_orderly(policy: CrashPolicy) -> bool {
    !matches!(policy, CrashPolicy::RandomSectors | CrashPolicy::LengthOnlyGarbage | CrashPolicy::Mixed)
}

/// Crashes at every operation of `work`, and recovers what each sort of power loss leaves. `check` gets what was recovered
/// and whether `work` had succeeded.
fn crash_everywhere(
    prepare: impl Fn(&MemoryFs) -> VersionSet,
    work: impl Fn(&MemoryFs, &VersionSet) -> Result<()>,
    check: impl Fn(&VersionSet, bool),
) {
    for step in 0.. {
        let fs = new_fs();
        let set = prepare(&fs);
        fs.crash_after(fs.op_count() + step);
        let is_done = work(&fs, &set).is_ok();
        for policy in CrashPolicy::ALL {
            for seed in 0..24 {
                let after = fs.crash_image(&policy, seed);
                let recovered = match recover(&after) {
                    Ok(recovered) => recovered,
                    Err(error) if !is_orderly(policy) && !is_done && error.kind() == ErrorKind::Corruption => continue,
                    Err(error) => panic!("step {step}, {policy:?}, seed {seed}: {error}"),
                };
                check(&recovered, is_done);
                // Life goes on: an edit, and another recovery.
                let before = numbers(&recovered);
                let number = flush(&after, &recovered, 1000).expect("a flush after recovery");
                assert!(!before.contains(&number.0), "number {number} was in use");
                let again = recover(&after.crash_image(&CrashPolicy::DropUnsynced, 0)).expect("a second recovery");
                assert_eq!(numbers(&again), [before, vec![number.0]].concat(), "step {step}, {policy:?}, seed {seed}");
            }
        }
        if is_done {
            assert!(step > 1, "nothing was interrupted");
            return;
        }
    }
}

#[test]
fn a_new_database_is_whole_or_not_there_after_a_crash_at_any_step_of_its_creation() {
    for step in 0.. {
        let fs = new_fs();
        fs.crash_after(fs.op_count() + step);
        let is_done = VersionSet::create(config(&fs), KeyOrder::Bytewise).is_ok();
        for policy in CrashPolicy::ALL {
            let after = fs.crash_image(&policy, step);
            match recover(&after) {
                Ok(set) => assert_eq!(numbers(&set), []),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NoSuchDatabase, "step {step}, {policy:?}: {error}");
                    assert!(!is_done, "step {step}, {policy:?}: {error}");
                    let set = create(&after);
                    flush(&after, &set, 1).expect("a flush");
                }
            }
        }
        if is_done {
            return;
        }
    }
}

#[test]
fn an_edit_is_there_or_not_after_a_crash_at_any_step_and_is_there_once_acknowledged() {
    crash_everywhere(
        |fs| {
            let set = create(fs);
            flush(fs, &set, 1).expect("a first flush");
            set
        },
        |fs, set| flush(fs, set, 2).map(drop),
        |recovered, is_done| {
            let count = numbers(recovered).len();
            assert!(count == 2 || (count == 1 && !is_done), "{count} files");
            assert_eq!(recovered.last_sequence(), SequenceNumber(count as u64));
        },
    );
}

#[test]
fn an_atomic_group_is_there_whole_or_not_at_all() {
    let edits = |set: &VersionSet| {
        let a = VersionEdit { family: ColumnFamilyId(1), ..flush_edit(set.new_file_number(), 5) };
        vec![flush_edit(set.new_file_number(), 5), a]
    };
    crash_everywhere(
        |fs| {
            let set = create(fs);
            set.create_family("a", KeyOrder::Bytewise, FileNumber(1), |_| {}).expect("a family");
            set
        },
        |_, set| Ok(set.log_and_apply(edits(set), |_| {})?),
        |recovered, is_done| {
            let counts: Vec<usize> = recovered.families().iter().map(|family| family.version.file_count()).collect();
            assert!(counts == [1, 1] || (counts == [0, 0] && !is_done), "{counts:?}");
        },
    );
}

#[test]
fn t15_a_crash_at_any_step_of_a_manifest_switch_loses_nothing() {
    crash_everywhere(
        |fs| {
            let set = create(fs);
            flush(fs, &set, 1).expect("a flush");
            set.create_family("gone", KeyOrder::Bytewise, FileNumber(1), |_| {}).expect("a family");
            set.drop_family(ColumnFamilyId(1), FileNumber(0), || {}).expect("dropped");
            set.create_family("stays", KeyOrder::ReverseBytewise, FileNumber(1), |_| {}).expect("a family");
            set
        },
        |fs, set| {
            set.switch_manifest()?;
            // The old one went before anything else could happen.
            assert_eq!(manifests(fs), 1);
            Ok(())
        },
        |recovered, _| {
            assert_eq!(numbers(recovered).len(), 1);
            let families = recovered.families();
            let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
            assert_eq!(names, ["default", "stays"]);
            assert_eq!(families[1].order.name(), KeyOrder::ReverseBytewise.name());
            assert_eq!(families[1].id, ColumnFamilyId(2));
        },
    );
}

#[test]
fn an_old_manifest_that_cannot_be_removed_holds_up_edits_until_it_can() {
    let fs = new_fs();
    let set = create(&fs);
    fs.inject(Fault::on(FsOp::Remove, "MANIFEST-*", FaultEffect::Eio).sticky());
    set.switch_manifest().expect_err("the removal fails");
    flush(&fs, &set, 1).expect_err("and fails again");
    assert_eq!((manifests(&fs), numbers(&set).len()), (2, 0));
    fs.clear_faults();
    flush(&fs, &set, 1).expect("a flush");
    assert_eq!((manifests(&fs), numbers(&set).len()), (1, 1));
}

#[test]
fn t12_after_a_failed_sync_both_outcomes_are_guarded_until_a_new_manifest_says_which() {
    for effect in [FaultEffect::Eio, FaultEffect::SyncDropsDirty] {
        let fs = new_fs();
        let set = create(&fs);
        let input = flush(&fs, &set, 1).expect("a flush");
        let output = set.new_output();
        let number = output.number();
        let mut moved = meta(number, "a", "z", 1);
        moved.epoch = 1;
        let edit =
            VersionEdit { deleted_files: vec![(0, input)], new_files: vec![(1, moved)], ..VersionEdit::default() };
        fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", effect));
        let failed = set.log_and_apply(vec![edit], |_| panic!("published")).expect_err("the sync fails");
        drop(output);
        assert!(failed.are_files_kept);
        let error = Error::from(failed);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("outcome unknown"), "{error}");
        assert_eq!(numbers(&set), [input.0]);
        assert!(set.is_protected(input) && set.is_protected(number) && set.is_in_limbo(number));
        // The record may have reached the disk, or not: both files must be there for whoever recovers.
        let reached = recover(&fs.crash_image(&CrashPolicy::KeepAll, 0)).expect("readable");
        let lost = recover(&fs.crash_image(&CrashPolicy::DropUnsynced, 0)).expect("readable");
        assert_eq!(numbers(&lost), [input.0]);
        assert!(effect == FaultEffect::SyncDropsDirty || numbers(&reached) == [number.0]);

        // A switch that fails does not end limbo.
        fs.inject(Fault::on(FsOp::Rename, "*.dbtmp", FaultEffect::Eio));
        set.recover_manifest().expect_err("the rename fails");
        assert!(set.is_in_limbo(number) && set.is_in_limbo(input));
        assert!(set.take_orphans().is_empty());

        set.recover_manifest().expect("a new MANIFEST");
        assert!(set.is_protected(input) && !set.is_in_limbo(input));
        assert!(!set.is_protected(number));
        assert_eq!(set.take_orphans(), [(number, FileKind::Table)]);
        assert_eq!(set.take_orphans(), []);
        let next = flush(&fs, &set, 2).expect("writes go on");
        let after = recover(&fs.crash_image(&CrashPolicy::DropUnsynced, 0)).expect("readable");
        assert_eq!(numbers(&after), [input.0, next.0]);
        let reused = fs.hazards();
        assert!(reused.is_empty(), "the failed MANIFEST was touched again: {reused:?}");
    }
}

#[test]
fn t13_a_number_from_a_lost_edit_is_never_given_to_another_file() {
    let fs = new_fs();
    let set = create(&fs);
    fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio));
    flush(&fs, &set, 1).expect_err("the sync fails");
    let seen = |fs: &MemoryFs| {
        let parse = |path: std::path::PathBuf| file_name::parse(path.file_name()?.to_str()?).map(|(_, number)| number);
        fs.paths().into_iter().filter_map(parse).max().expect("files")
    };
    let mut life = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
    for _ in 0..3 {
        let largest = seen(&life);
        let set = recover(&life).expect("readable");
        life.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio).skip(1));
        assert!(set.new_file_number() > largest);
        flush(&life, &set, 2).expect_err("the sync of the edit fails again");
        life = life.crash_image(&CrashPolicy::DropUnsynced, 0);
    }
}

#[test]
fn t14_the_number_of_an_orphan_that_cannot_be_removed_is_skipped_for_good() {
    let fs = new_fs();
    drop(create(&fs));
    let orphan = fs.create(Path::new("/db/000777.sst"), CreateMode::New).expect("a file");
    orphan.sync_data().expect("synced");
    fs.sync_dir(DIR.as_ref()).expect("synced");
    let set = recover(&fs).expect("readable");
    assert!(set.new_file_number() > FileNumber(777));
    assert!(!set.is_protected(FileNumber(777)));
    set.switch_manifest().expect("switched");
    // Even when the orphan is gone from the directory, its number is not free again.
    fs.remove_file(Path::new("/db/000777.sst")).expect("removed");
    assert!(recover(&fs).expect("readable").new_file_number() > FileNumber(777));
}

#[test]
fn an_edit_that_does_not_fit_is_refused_before_a_byte_is_written() {
    let fs = new_fs();
    let set = create(&fs);
    let number = flush(&fs, &set, 1).expect("a flush");
    let ops = fs.op_count();
    let twice = flush_edit(number, 2);
    let missing = VersionEdit { deleted_files: vec![(1, number)], ..VersionEdit::default() };
    let beyond = flush_edit(FileNumber(5000), 2);
    for edit in [twice, missing, beyond] {
        let failed = set.log_and_apply(vec![edit], |_| panic!("published")).expect_err("refused");
        assert!(!failed.are_files_kept);
        let error = Error::from(failed);
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(error.to_string().contains("file "), "{error}");
    }
    let foreign = VersionEdit { family: ColumnFamilyId(9), ..flush_edit(set.new_file_number(), 2) };
    let failed = set.log_and_apply(vec![foreign], |_| {}).expect_err("refused");
    assert_eq!(Error::from(failed).kind(), ErrorKind::NoSuchColumnFamily);
    assert_eq!(fs.op_count(), ops);
    assert_eq!(numbers(&set), [number.0]);
}

#[test]
fn a_manifest_that_has_grown_too_large_is_replaced_and_a_damaged_one_refused() {
    let fs = new_fs();
    let set = VersionSet::create(VersionSetConfig { manifest_bytes_max: 2000, ..config(&fs) }, KeyOrder::Bytewise)
        .expect("new");
    let first = set.manifest_number();
    for seq in 1..40 {
        flush(&fs, &set, seq).expect("a flush");
    }
    assert!(set.manifest_number() > first);
    assert!(!set.is_manifest_needed(first) && set.is_manifest_needed(set.manifest_number()));
    let path = Path::new(DIR).join(file_name::manifest(set.manifest_number()));
    assert_eq!(numbers(&recover(&fs).expect("whole")).len(), 39);
    fs.damage(&path, |bytes| bytes[200] ^= 1).expect("there");
    let error = recover(&fs).expect_err("damaged");
    let damage = error.corruption().expect("corruption");
    assert_eq!(damage.file.as_deref(), Some(&*path));
    assert!(damage.offset.is_some(), "{error}");
}

#[test]
fn numbers_that_leave_no_room_are_damage_and_a_log_is_never_numbered_below_what_is_kept() {
    let edited = |edit: VersionEdit| {
        let fs = new_fs();
        let set = create(&fs);
        set.log_and_apply(vec![edit], |_| {}).expect("logged");
        drop(set);
        recover(&fs)
    };
    let sequence = |number: u64| VersionEdit { last_sequence: Some(SequenceNumber(number)), ..VersionEdit::default() };
    assert!(edited(sequence(SequenceNumber::LIMIT.0)).is_ok());
    for number in [SequenceNumber::LIMIT.0 + 1, SequenceNumber::MAX.0, 1 << 60] {
        assert_eq!(edited(sequence(number)).expect_err("too large").kind(), ErrorKind::Corruption, "{number}");
    }
    let keep = |number: u64| VersionEdit { min_log_to_keep: Some(FileNumber(number)), ..VersionEdit::default() };
    assert!(edited(keep(500)).expect("readable").new_file_number() > FileNumber(500));
    for number in [FILE_NUMBER_MAX - 1, FILE_NUMBER_MAX, u64::MAX] {
        assert_eq!(edited(keep(number)).expect_err("too large").kind(), ErrorKind::Corruption, "{number}");
    }
}

#[test]
fn a_directory_that_is_named_like_a_manifest_is_left_alone() {
    let fs = new_fs();
    flush(&fs, &create(&fs), 1).expect("a flush");
    let dir = Path::new("/db/MANIFEST-000777");
    fs.create_dir_all(dir).expect("a directory");
    let set = recover(&fs).expect("readable");
    flush(&fs, &set, 2).expect("a flush");
    assert!(fs.exists(dir).expect("memory") && set.manifest_number() > FileNumber(777));
}

#[test]
fn a_read_only_set_writes_nothing() {
    let fs = new_fs();
    flush(&fs, &create(&fs), 1).expect("a flush");
    fs.clear_ops();
    let (set, recovered) = VersionSet::recover(config(&fs), true, &|_, _| None).expect("readable");
    assert_eq!(recovered.families[0].version.file_count(), 1);
    assert_eq!(Error::from(set.log_and_apply(vec![], |_| {}).expect_err("refused")).kind(), ErrorKind::ReadOnly);
    assert_eq!(set.switch_manifest().expect_err("refused").kind(), ErrorKind::ReadOnly);
    let family = set.create_family("a", KeyOrder::Bytewise, FileNumber(1), |_| {});
    assert_eq!(family.expect_err("refused").kind(), ErrorKind::ReadOnly);
    assert_eq!(fs.ops(), []);
}

#[test]
fn another_order_than_the_stored_one_is_refused_by_both_names() {
    let fs = new_fs();
    drop(create(&fs));
    let wrong = VersionSet::recover(config(&fs), false, &|_, _| Some(KeyOrder::ReverseBytewise)).expect_err("refused");
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
    for order in [KeyOrder::Bytewise, KeyOrder::ReverseBytewise] {
        assert!(wrong.to_string().contains(order.name()), "{wrong}");
    }
}

#[test]
fn a_directory_with_tables_but_no_current_is_not_made_a_new_database() {
    let fs = new_fs();
    flush(&fs, &create(&fs), 1).expect("a flush");
    let twice = VersionSet::create(config(&fs), KeyOrder::Bytewise).expect_err("there is one");
    assert_eq!(twice.kind(), ErrorKind::InvalidArgument);
    fs.remove_file(Path::new("/db/CURRENT")).expect("removed");
    let error = VersionSet::create(config(&fs), KeyOrder::Bytewise).expect_err("tables without CURRENT");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[test]
fn ids_stay_and_outputs_are_protected_while_a_guard_lives() {
    let fs = new_fs();
    let set = create(&fs);
    let id = set.db_id().to_owned();
    assert_eq!(id.len(), 36);
    assert!(
        set.session_id().len() == 20 && set.session_id().bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    );
    let guard = set.new_output();
    let number = guard.number();
    let second = set.protect_output(number);
    drop(guard);
    assert!(set.is_protected(number));
    drop(second);
    assert!(!set.is_protected(number));
    assert_eq!(recover(&fs).expect("readable").db_id(), id);
    assert_eq!(fs.read_whole(Path::new("/db/IDENTITY"), 100).expect("there"), id.as_bytes());
}

#[test]
fn versions_of_dropped_families_are_listed_while_held_and_a_moved_file_keeps_its_identity() {
    let fs = new_fs();
    let set = create(&fs);
    let family = set.create_family("a", KeyOrder::Bytewise, FileNumber(1), |_| {}).expect("a family");
    let edit = VersionEdit { family: family.id, ..flush_edit(set.new_file_number(), 1) };
    set.log_and_apply(vec![edit], |_| {}).expect("logged");
    let held = set.current(family.id).expect("a version");
    let (_, file) = held.files().next().expect("a file");
    let trivial_move = VersionEdit {
        family: family.id,
        deleted_files: vec![(0, file.number())],
        new_files: vec![(3, file.meta.clone())],
        ..VersionEdit::default()
    };
    set.log_and_apply(vec![trivial_move], |_| {}).expect("logged");
    let moved = set.current(family.id).expect("a version");
    assert_eq!(moved.level_of(file.number()), Some(3));
    assert_eq!(moved.highest_used_level(), Some(3));
    assert!(Arc::ptr_eq(moved.file(file.number()).expect("there").1, file));
    drop(moved);
    let last = set.drop_family(family.id, FileNumber(0), || {}).expect("dropped");
    assert!(set.live_versions().iter().any(|version| Arc::ptr_eq(version, &held)));
    drop((last, held));
    assert_eq!(set.live_versions().iter().filter(|version| version.file_count() > 0).count(), 0);
}

#[test]
fn a_held_manifest_stays_when_it_is_replaced_and_edits_go_on_and_is_handed_out_once_when_the_hold_goes() {
    let fs = new_fs();
    let set = create(&fs);
    flush(&fs, &set, 1).expect("a flush");
    let log = |number: u64| Piece { number: FileNumber(number), bytes: number };
    let hold = set.hold(vec![log(3), log(4)], SequenceNumber(1), Some(FileNumber(2))).expect("a hold");
    let second = set.hold(vec![log(4)], SequenceNumber(1), None).expect("a hold");
    let (first, bytes) = (hold.manifest.number, hold.manifest.bytes);
    assert_eq!((first, hold.logs.len(), second.id), (set.manifest_number(), 2, hold.id + 1));
    let path = Path::new(DIR).join(file_name::manifest(first));
    assert_eq!(fs.file_size(&path).expect("there"), bytes);
    let then = fs.read_whole(&path, 1 << 20).expect("there");
    flush(&fs, &set, 2).expect("a flush");
    for _ in 0..3 {
        set.switch_manifest().expect("switched");
        flush(&fs, &set, 3).expect("edits go on");
    }
    assert_eq!(manifests(&fs), 2, "those between were named by nobody");
    assert!(fs.read_whole(&path, 1 << 20).expect("there").starts_with(&then));
    assert_eq!(set.let_go(), [(first, fs.file_size(&path).expect("there"))]);
    assert_eq!(set.let_go(), []);
    let kept = |kind, number: u64| set.is_held(kind, FileNumber(number));
    assert!(set.is_manifest_needed(first) && kept(FileKind::Options, 2) && !kept(FileKind::Options, 1));
    assert!(!kept(FileKind::Wal, 2) && kept(FileKind::Wal, 3) && kept(FileKind::Wal, 99), "later logs wait for it");
    hold.release_logs();
    assert!(!kept(FileKind::Wal, 3) && kept(FileKind::Wal, 4), "the second has its own");
    let version = Arc::downgrade(&hold.versions[0]);
    drop((hold, second));
    assert!(set.is_manifest_needed(first) && version.upgrade().is_some(), "whoever drops a hold frees nothing");
    set.let_go();
    assert!(!set.is_manifest_needed(first) && !kept(FileKind::Wal, 4) && version.upgrade().is_none());
    assert_eq!(manifests(&fs), 2, "the janitor unlinks it");
}

#[test]
fn a_hold_names_no_manifest_whose_end_is_unknown_and_no_log_that_is_not_asked_for() {
    let fs = new_fs();
    let set = create(&fs);
    flush(&fs, &set, 1).expect("a flush");
    fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio));
    let keep = VersionEdit { min_log_to_keep: Some(FileNumber(5)), ..VersionEdit::default() };
    set.log_and_apply(vec![keep.clone()], |_| {}).expect_err("the sync fails");
    let logs = || [4, 5, 6].map(|number| Piece { number: FileNumber(number), bytes: 0 }).to_vec();
    fs.inject(Fault::on(FsOp::Rename, "*.dbtmp", FaultEffect::Eio));
    assert_eq!(set.hold(logs(), SequenceNumber(1), None).expect_err("nor a new one").kind(), ErrorKind::Io);
    assert!(set.holds().is_empty());
    let failed = set.manifest_number();
    let hold = set.hold(logs(), SequenceNumber(1), None).expect("a hold");
    assert!(hold.manifest.number > failed && hold.manifest.number == set.manifest_number());
    assert_eq!(hold.logs.len(), 3);
    set.log_and_apply(vec![keep], |_| {}).expect("logged");
    let later = set.hold(logs(), SequenceNumber(1), None).expect("a hold");
    assert_eq!(later.logs.iter().map(|log| log.number.0).collect::<Vec<_>>(), [5, 6]);
    assert!(later.manifest.bytes > hold.manifest.bytes);
    set.close();
    assert_eq!(set.hold(logs(), SequenceNumber(1), None).expect_err("closed").kind(), ErrorKind::Closed);
}
