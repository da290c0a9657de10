use super::*;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn read(fs: &MemoryFs, name: &str) -> Vec<u8> {
    fs.read_whole(path(name), 1 << 20).expect("the file can be read")
}

/// A file with `synced` durable bytes and then `appends`, unsynced, in a synced directory.
fn half_synced(synced: &[u8], appends: &[&[u8]]) -> (MemoryFs, Arc<dyn WritableFile>) {
    let fs = MemoryFs::new();
    let file = fs.create(path("/f"), CreateMode::New).expect("create");
    fs.sync_dir(path("/")).expect("sync the directory");
    file.append(synced).expect("append");
    file.sync_data().expect("sync");
    for bytes in appends {
        file.append(bytes).expect("append");
    }
    (fs, file)
}

#[test]
fn a_synced_file_without_a_synced_entry_is_lost() {
    let fs = MemoryFs::new();
    let file = fs.create(path("/f"), CreateMode::New).expect("create");
    file.append(b"bytes").expect("append");
    file.sync_data().expect("sync");
    assert!(!fs.crash_image(&CrashPolicy::DropUnsynced, 0).exists(path("/f")).expect("stat"));
    assert_eq!(read(&fs.crash_image(&CrashPolicy::KeepAll, 0), "/f"), b"bytes");
    fs.sync_dir(path("/")).expect("sync the directory");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"bytes");
}

#[test]
fn a_durable_prefix_survives_every_policy_and_every_policy_can_lose_or_damage_the_rest() {
    let synced = vec![7; 700];
    let tail: Vec<u8> = (0..9000u32).map(|i| (i % 251) as u8 + 1).collect();
    let (fs, _file) = half_synced(&synced, &[&tail[..10], &tail[10..]]);
    let whole = [synced.clone(), tail].concat();
    for policy in &CrashPolicy::ALL {
        let mut kept_all = true;
        for seed in 0..50 {
            let left = read(&fs.crash_image(policy, seed), "/f");
            assert!(left.starts_with(&synced), "{policy:?}, seed {seed}: a synced byte is lost");
            assert!(left.len() <= whole.len(), "{policy:?}, seed {seed}");
            kept_all &= left == whole;
        }
        assert_eq!(kept_all, *policy == CrashPolicy::KeepAll, "{policy:?}");
    }
}

#[test]
fn an_image_is_a_pure_function_of_the_seed() {
    let (fs, _file) = half_synced(b"synced", &[&[1; 5000], &[2; 5000]]);
    fs.create(path("/g"), CreateMode::New).expect("create");
    for policy in &CrashPolicy::ALL {
        for seed in 0..20 {
            let (one, two) = (fs.crash_image(policy, seed), fs.crash_image(policy, seed));
            assert_eq!(one.paths(), two.paths());
            for name in one.paths() {
                assert_eq!(one.read_whole(&name, 1 << 20).ok(), two.read_whole(&name, 1 << 20).ok(), "{policy:?}");
            }
        }
    }
}

#[test]
fn a_torn_write_keeps_what_came_before_the_last_append() {
    let (fs, _file) = half_synced(b"a", &[b"bb", b"cccc"]);
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let left = read(&fs.crash_image(&CrashPolicy::TornWrite, seed), "/f");
        assert!(b"abbcccc".starts_with(&left[..]));
        lengths.insert(left.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
}

#[test]
fn prefix_keeps_the_order_across_files_and_prefix_per_file_does_not() {
    let fs = MemoryFs::new();
    let one = fs.create(path("/1"), CreateMode::New).expect("create");
    let two = fs.create(path("/2"), CreateMode::New).expect("create");
    fs.sync_dir(path("/")).expect("sync the directory");
    one.append(b"first").expect("append");
    two.append(b"second").expect("append");
    let reordered = |policy| {
        (0..100).any(|seed| {
            let image = fs.crash_image(&policy, seed);
            read(&image, "/1").is_empty() && !read(&image, "/2").is_empty()
        })
    };
    assert!(!reordered(CrashPolicy::Prefix));
    assert!(reordered(CrashPolicy::PrefixPerFile));
    assert!(reordered(CrashPolicy::Mixed));
}

#[test]
fn entry_operations_survive_in_any_combination() {
    let fs = MemoryFs::new();
    fs.create(path("/old"), CreateMode::New).expect("create");
    fs.sync_dir(path("/")).expect("sync the directory");
    fs.create(path("/temp"), CreateMode::New).expect("create");
    fs.rename(path("/temp"), path("/new")).expect("rename");
    fs.remove_file(path("/old")).expect("remove");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let image = fs.crash_image(&CrashPolicy::EntrySubset, seed);
        seen.insert(image.paths());
    }
    let only = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert!(seen.contains(&only(&[])), "unlink without rename");
    assert!(seen.contains(&only(&["/new", "/old"])), "rename without unlink");
    assert!(seen.contains(&only(&["/old", "/temp"])), "create alone");
    assert!(seen.contains(&only(&["/new"])), "all");
    assert!(!seen.iter().any(|names| names.contains(&"/new".into()) && names.contains(&"/temp".into())));
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
    let (fs, _file) = half_synced(b"old", &[]);
    fs.write_atomically(path("/f"), path("/t"), b"new").expect("write atomically");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"new");
    let temp = fs.create(path("/t"), CreateMode::New).expect("create");
    temp.append(b"newer").expect("append");
    temp.sync_data().expect("sync");
    fs.rename(path("/t"), path("/f")).expect("rename");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"new");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::KeepAll, 0), "/f"), b"newer");
    assert_eq!(fs.used_bytes(), 5);
}

#[test]
fn a_truncation_that_is_not_synced_can_be_undone() {
    let (fs, _file) = half_synced(b"old", &[]);
    let file = fs.create(path("/f"), CreateMode::Truncate).expect("create");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"old");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::KeepAll, 0), "/f"), b"");
    file.append(b"n").expect("append");
    file.sync_data().expect("sync");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"n");
}

#[test]
fn a_failed_sync_drops_its_range_even_if_the_next_one_succeeds() {
    let (fs, file) = half_synced(b"safe", &[b"gone"]);
    fs.inject(Fault::on(FsOp::Sync, "f", FaultEffect::SyncDropsDirty));
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(read(&fs, "/f"), b"safegone", "the cache still has it");
    assert!(fs.hazards().is_empty());
    file.append(b"kept").expect("append");
    file.sync_data().expect("the second sync lies");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"safe\0\0\0\0kept");
    assert_eq!(fs.hazards().len(), 2, "using the file again is a mistake, and noted");
    assert_eq!(fs.hazards()[0].kind, HazardKind::UsedAfterFailure);
}

#[test]
fn crash_images_share_nothing_that_changes() {
    let (fs, file) = half_synced(b"one", &[]);
    let image = fs.crash_image(&CrashPolicy::KeepAll, 0);
    file.append(b" two").expect("append");
    fs.create(path("/g"), CreateMode::New).expect("create");
    assert_eq!(image.paths(), [path("/f")]);
    assert_eq!(read(&image, "/f"), b"one");
    image.damage(path("/f"), |bytes| bytes[0] ^= 1).expect("damage");
    assert_eq!(read(&fs, "/f"), b"one two");
    assert_eq!((image.used_bytes(), fs.used_bytes()), (3, 7));
}

#[test]
fn a_file_with_two_names_stays_one_file() {
    let (fs, _file) = half_synced(b"one", &[]);
    fs.hard_link(path("/f"), path("/g")).expect("link");
    fs.sync_dir(path("/")).expect("sync the directory");
    let image = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
    assert_eq!(image.used_bytes(), 3);
    image.remove_file(path("/f")).expect("remove");
    assert_eq!((read(&image, "/g"), image.used_bytes()), (b"one".to_vec(), 3));
    image.remove_file(path("/g")).expect("remove");
    assert_eq!(image.used_bytes(), 0);
}

#[test]
fn an_open_file_is_readable_after_its_removal() {
    let (fs, file) = half_synced(b"one", &[]);
    let reader = fs.open_random(path("/f")).expect("open");
    fs.remove_file(path("/f")).expect("remove");
    file.append(b" two").expect("append");
    let mut buffer = [0; 10];
    assert_eq!(reader.read_at(2, &mut buffer).expect("read"), 5);
    assert_eq!(&buffer[..5], b"e two");
    assert_eq!(reader.read_at(u64::MAX, &mut buffer).expect("read"), 0);
    assert!(fs.open_random(path("/f")).unwrap_err().is_not_found());
    assert_eq!(fs.used_bytes(), 0);
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"one", "the removal was not synced");
}

#[test]
fn after_the_crash_point_nothing_works_and_nothing_changes() {
    let (fs, file) = half_synced(b"one", &[]);
    let reader = fs.open_random(path("/f")).expect("open");
    fs.crash_after(fs.op_count() + 1);
    file.append(b" two").expect("the last one");
    for error in [
        file.append(b"x").unwrap_err(),
        file.sync_data().unwrap_err(),
        fs.remove_file(path("/f")).unwrap_err(),
        fs.exists(path("/f")).unwrap_err(),
        reader.read_at(0, &mut [0]).unwrap_err(),
    ] {
        assert!(MemoryFs::is_crash(&error), "{error}");
    }
    assert_eq!(read(&fs.crash_image(&CrashPolicy::KeepAll, 0), "/f"), b"one two");
}

#[test]
fn faults_strike_where_they_are_aimed() {
    let (fs, file) = half_synced(b"one", &[]);
    fs.inject(Fault::at(fs.op_count() + 1, FaultEffect::Eio));
    file.append(b"2").expect("before");
    file.append(b"x").unwrap_err();
    file.append(b"3").expect("after");
    fs.inject(Fault::on(FsOp::Append, "f", FaultEffect::ShortWrite));
    file.append(b"4567").unwrap_err();
    assert_eq!(read(&fs, "/f"), b"one2345");
    fs.inject(Fault::on(FsOp::Read, "*", FaultEffect::BitFlip));
    let flipped = read(&fs, "/f");
    let wrong: u32 = flipped.iter().zip(b"one2345").map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(wrong, 1);
    fs.inject(Fault::on_any("g*", FaultEffect::NoSpace).sticky());
    for _ in 0..3 {
        assert_eq!(fs.create(path("/g1"), CreateMode::New).unwrap_err().kind(), ErrorKind::NoSpace);
    }
    fs.clear_faults();
    fs.create(path("/g1"), CreateMode::New).expect("no fault is left");
    fs.inject(Fault::on(FsOp::Sync, "f", FaultEffect::LyingSync));
    file.sync_data().expect("it says so");
    assert_eq!(read(&fs.crash_image(&CrashPolicy::DropUnsynced, 0), "/f"), b"one");
    assert_eq!(fs.faults_struck(), 7);
}

#[test]
fn a_full_device_stores_what_fits_and_works_again_when_there_is_room() {
    let (fs, file) = half_synced(b"one", &[]);
    fs.set_capacity(Some(5));
    assert_eq!(fs.free_space(path("/")).expect("space"), 2);
    assert_eq!(file.append(b"four").unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(read(&fs, "/f"), b"onefo");
    fs.remove_file(path("/f")).expect("remove");
    let file = fs.create(path("/g"), CreateMode::New).expect("create");
    file.append(b"five5").expect("append");
}

#[test]
fn the_lock_excludes_and_dies_with_its_holder_and_with_the_power() {
    let fs = MemoryFs::new();
    let held = fs.lock(path("/LOCK")).expect("lock");
    assert_eq!(fs.lock(path("LOCK")).unwrap_err().kind(), ErrorKind::Locked);
    fs.crash_image(&CrashPolicy::KeepAll, 0).lock(path("/LOCK")).expect("lock in the image");
    drop(held);
    fs.lock(path("/LOCK")).expect("lock again");
}

#[test]
fn directories_nest_and_what_create_dir_all_made_is_durable() {
    let fs = MemoryFs::new();
    fs.create_dir_all(path("/a/b")).expect("create");
    fs.create_dir_all(path("a/b/")).expect("no error if it exists");
    fs.create(path("/a/b/f"), CreateMode::New).expect("create");
    let image = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
    assert!(image.exists(path("/a/b")).expect("stat") && image.exists(path("/")).expect("stat"));
    assert!(image.list(path("/a/b")).expect("list").is_empty());
    fs.remove_dir(path("/a/b")).unwrap_err();
    fs.rename(path("/a/b"), path("/c")).expect("rename a directory");
    assert_eq!(fs.paths(), [path("/c/f")]);
    fs.create_dir_all(path("/c/f/g")).unwrap_err();
    fs.open_random(path("/c/../c/f")).unwrap_err();
    fs.remove_file(path("/c/f")).expect("remove");
    fs.remove_dir(path("/c")).expect("remove the directory");
}

#[test]
fn the_linter_sees_a_rename_of_an_unsynced_file_and_a_removal_before_its_replacement_is_durable() {
    let (fs, _file) = half_synced(b"one", &[b"two"]);
    fs.lint(true);
    fs.rename(path("/f"), path("/g")).expect("rename");
    fs.create(path("/h"), CreateMode::New).expect("create");
    fs.remove_file(path("/h")).expect("remove");
    let kinds: Vec<_> = fs.hazards().into_iter().map(|hazard| hazard.kind).collect();
    assert_eq!(kinds, [HazardKind::RenamedUnsynced, HazardKind::RemovedBeforeDurable(vec!["g".to_owned()])]);
}

#[test]
fn the_log_has_the_operations_that_change_the_disk_and_reads_on_demand() {
    let (fs, _file) = half_synced(b"one", &[]);
    let ops: Vec<_> = fs.ops().into_iter().map(|logged| (logged.index, logged.op)).collect();
    assert_eq!(ops, [(0, FsOp::Create), (1, FsOp::SyncDir), (2, FsOp::Append), (3, FsOp::Sync)]);
    fs.clear_ops();
    read(&fs, "/f");
    assert!(fs.ops().is_empty());
    fs.log_reads(true);
    read(&fs, "/f");
    assert!(fs.ops().iter().any(|logged| logged.op == FsOp::Read));
}
