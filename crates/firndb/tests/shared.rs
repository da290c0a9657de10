//! What several databases may share: cache, threads, counters, a budget for memtables, a limit on background writes.

use firndb::{BlockCache, Db, MemoryFs, Options, RateLimiter, Statistics, ThreadPool, Ticker, WriteBufferManager};
use firndb_testkit::{decimal_key, eventually, small_options};

#[test]
fn databases_that_share_everything_hold_their_own_data_and_one_budget_each() {
    let fs = MemoryFs::new();
    let mut options = Options::default();
    options.create_if_missing = true;
    options.fs = std::sync::Arc::new(fs.clone());
    options.block_cache = Some(BlockCache::new(64 << 10));
    options.thread_pool = Some(ThreadPool::new(2).expect("threads"));
    options.statistics = Some(std::sync::Arc::new(Statistics::default()));
    options.family.write_buffer_size = 4 << 20;
    options.write_buffer_manager = Some(WriteBufferManager::new(1 << 20));
    options.rate_limiter = Some(RateLimiter::new(1 << 30));
    let open = |name: &str| Db::open_with(std::path::Path::new("/").join(name), options.clone()).expect("opens");
    let all: Vec<Db> = ["one", "two", "three"].into_iter().map(open).collect();
    std::thread::scope(|scope| {
        for (index, db) in all.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..6000u64 {
                    db.put(decimal_key(number), vec![index as u8; 60 * (index + 1)]).expect("written");
                }
            });
        }
    });
    let manager = options.write_buffer_manager.as_ref().expect("given");
    let cache = options.block_cache.as_ref().expect("given");
    for (index, db) in all.iter().enumerate() {
        for number in (0..6000).step_by(37) {
            let value = db.get(decimal_key(number)).expect("readable").expect("there");
            assert!(value.len() == 60 * (index + 1) && value.iter().all(|byte| *byte == index as u8));
        }
        assert!(cache.usage() <= cache.capacity());
    }
    // Far below the 4 MiB that each would have had for itself: the budget had somebody flush.
    eventually("somebody flushes", || all.iter().any(|db| db.stats().bytes_flushed > 0));
    let statistics = options.statistics.as_ref().expect("given");
    assert_eq!(statistics.ticker(Ticker::NumberKeysWritten), 18_000);
    all[0].close().expect("closes");
    all[1].put("still", "open").expect("the pool goes on for the others");
    all[1].flush().expect("flushed");
    all[1..].iter().for_each(|db| db.close().expect("closes"));
    drop(all);
    assert_eq!((manager.usage(), cache.usage()), (0, 0), "everything was given back");
}

#[test]
fn over_the_budget_the_database_with_the_largest_memtables_flushes_and_not_the_one_that_writes() {
    let fs = MemoryFs::new();
    let mut options = small_options(&fs);
    options.family.write_buffer_size = 1 << 20;
    options.write_buffer_manager = Some(WriteBufferManager::new(300 << 10));
    let large = Db::open_with("/large", options.clone()).expect("opens");
    let small = Db::open_with("/small", options.clone()).expect("opens");
    (0..2000).for_each(|number| large.put(decimal_key(number), [b'v'; 64]).expect("written"));
    assert_eq!(large.stats().bytes_flushed, 0, "within the budget");
    for number in 0..400 {
        small.put(decimal_key(number), [b'v'; 64]).expect("written");
    }
    while large.run_background_step() || small.run_background_step() {}
    assert!(large.stats().bytes_flushed > 0, "{:?}", options.write_buffer_manager);
    assert_eq!(small.stats().bytes_flushed, 0);
    large.close().expect("closes");
    small.close().expect("closes");
}

#[test]
fn a_limit_on_background_writes_slows_compactions_down_and_loses_nothing() {
    let fs = MemoryFs::new();
    let mut options = small_options(&fs);
    let clock = std::sync::Arc::new(firndb::ManualClock::new(3));
    options.clock = clock.clone();
    options.family.disable_auto_compactions = true;
    options.rate_limiter = Some(RateLimiter::new(10_000));
    let db = Db::open_with("/db", options).expect("opens");
    for part in 0..4 {
        (0..20).for_each(|number| db.put(decimal_key(number * 4 + part), [b'v'; 40]).expect("written"));
        db.flush().expect("flushed");
    }
    use firndb::Clock as _;
    let before = clock.monotonic_micros();
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert!(clock.monotonic_micros() > before, "it waited");
    assert_eq!(db.iter().expect("opens").count(), 80);
    db.close().expect("closes");
}
