//! What all scenarios work with: a database on a file system in memory that can be watched, and looks at its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::inspect::{self, Field, Item};
use firndb::{
    BackgroundMode, ColumnFamily, CrashPolicy, CreateMode, Db, DirEntry, FileLock, Fs, FsOp, HeldDescriptor, LogLevel,
    Logger, ManualClock, MemoryFs, Options, RandomAccessFile, Result, WritableFile, verify_directory,
};

pub(crate) const DIR: &str = "/db";

/// Policies under which a MANIFEST that was being written has no garbage at its end: open must succeed.
pub(crate) const ORDERLY: [CrashPolicy; 6] = [
    CrashPolicy::DropUnsynced,
    CrashPolicy::KeepAll,
    CrashPolicy::Prefix,
    CrashPolicy::PrefixPerFile,
    CrashPolicy::TornWrite,
    CrashPolicy::EntrySubset,
];

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

type Hook = Arc<dyn Fn(FsOp, &Path) + Send + Sync>;

/// A file system that calls a hook before every operation: to look, to wait, or to do something in the very middle.
#[derive(Clone)]
pub(crate) struct HookFs {
    inner: MemoryFs,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for HookFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookFs")
    }
}

impl HookFs {
    pub(crate) fn new(inner: MemoryFs) -> HookFs {
        HookFs { inner, hook: Arc::default() }
    }

    pub(crate) fn set(&self, hook: impl Fn(FsOp, &Path) + Send + Sync + 'static) {
        *self.hook.lock().expect("whole") = Some(Arc::new(hook));
    }

    pub(crate) fn clear(&self) {
        *self.hook.lock().expect("whole") = None;
    }

    fn call(&self, op: FsOp, path: &Path) {
        // Taken out first: a hook may use the file system, and even set another hook.
        let hook = self.hook.lock().expect("whole").clone();
        if let Some(hook) = hook {
            hook(op, path);
        }
    }
}

#[derive(Debug)]
struct HookedFile {
    fs: HookFs,
    path: PathBuf,
    inner: Arc<dyn WritableFile>,
}

impl WritableFile for HookedFile {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        self.fs.call(FsOp::Append, &self.path);
        self.inner.append(bytes)
    }

    fn sync_data(&self) -> Result<()> {
        self.fs.call(FsOp::Sync, &self.path);
        self.inner.sync_data()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn allocate(&self, len: u64) {
        self.inner.allocate(len);
    }
}

impl Fs for HookFs {
    fn open_random(&self, path: &Path) -> Result<Arc<dyn RandomAccessFile>> {
        self.call(FsOp::Open, path);
        self.inner.open_random(path)
    }

    fn create(&self, path: &Path, mode: CreateMode) -> Result<Arc<dyn WritableFile>> {
        self.call(FsOp::Create, path);
        let inner = self.inner.create(path, mode)?;
        Ok(Arc::new(HookedFile { fs: self.clone(), path: path.to_owned(), inner }))
    }

    fn file_size(&self, path: &Path) -> Result<u64> {
        self.inner.file_size(path)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.call(FsOp::List, dir);
        self.inner.list(dir)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.call(FsOp::Remove, path);
        self.inner.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(FsOp::Rename, from);
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.hard_link(from, to)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.call(FsOp::SyncDir, dir);
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        self.inner.free_space(path)
    }

    fn open_files_max(&self) -> Option<u64> {
        self.inner.open_files_max()
    }

    fn hold_descriptor(&self) -> Option<Box<dyn HeldDescriptor>> {
        self.inner.hold_descriptor()
    }
}

/// Keeps what the engine logs; a line that says "bug" fails the scenario.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl Logger for Lines {
    fn log(&self, _level: LogLevel, message: &str) {
        self.0.lock().expect("whole").push(message.to_owned());
    }
}

impl Lines {
    /// What was logged so far, and is forgotten with that.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("whole"))
    }
}

/// A database's surroundings: they stay when it is closed.
pub(crate) struct Lab {
    pub(crate) fs: MemoryFs,
    pub(crate) hook: HookFs,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) options: Options,
}

impl Lab {
    /// Small memtables, blocks and files; nothing runs by itself.
    pub(crate) fn new() -> Lab {
        Lab::on(MemoryFs::new())
    }

    pub(crate) fn on(fs: MemoryFs) -> Lab {
        let hook = HookFs::new(fs.clone());
        let clock = Arc::new(ManualClock::new(7));
        let lines = Arc::new(Lines::default());
        let mut options = Options::default();
        options.create_if_missing = true;
        options.fs = Arc::new(hook.clone());
        options.clock = Arc::clone(&clock) as _;
        options.logger = Some(Arc::clone(&lines) as _);
        options.background = BackgroundMode::Manual;
        options.family.write_buffer_size = 1 << 20;
        // Nobody flushes while a scenario writes: writers are not to wait for it.
        options.family.max_write_buffer_number = 100;
        options.family.level0_slowdown_writes_trigger = 1000;
        options.family.level0_stop_writes_trigger = 1000;
        options.family.block_size = 256;
        options.family.target_file_size_base = 2048;
        options.family.max_bytes_for_level_base = 8192;
        options.family.level0_file_num_compaction_trigger = 100;
        Lab { fs, hook, clock, lines, options }
    }

    /// The same with the engine's own threads and the machine's clock.
    pub(crate) fn with_threads() -> Lab {
        let mut lab = Lab::new();
        lab.options.background = BackgroundMode::Threads;
        lab.options.clock = Options::default().clock;
        lab.options.background_retry = Duration::from_millis(20);
        lab
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Options)) -> Lab {
        change(&mut self.options);
        self
    }

    pub(crate) fn open(&self) -> Db {
        Db::open_with(DIR, self.options.clone()).expect("it opens")
    }

    pub(crate) fn try_open(&self) -> Result<Db> {
        Db::open_with(DIR, self.options.clone())
    }

    /// The disk after a power loss now, with the same options.
    pub(crate) fn crash(&self, policy: CrashPolicy, seed: u64) -> Lab {
        let mut lab = Lab::on(self.fs.crash_image(&policy, seed));
        lab.fs.set_capacity(None);
        let fs = Arc::clone(&lab.options.fs);
        let clock = Arc::clone(&lab.clock);
        let logger = lab.options.logger.clone();
        lab.options = self.options.clone();
        lab.options.fs = fs;
        lab.options.logger = logger;
        if self.options.background == BackgroundMode::Manual {
            lab.options.clock = clock;
        }
        lab
    }

    /// Numbers of the files with this ending.
    pub(crate) fn files(&self, ending: &str) -> BTreeSet<u64> {
        let paths = self.fs.paths();
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str()?.strip_suffix(ending)?.parse().ok());
        names.collect()
    }

    pub(crate) fn tables(&self) -> BTreeSet<u64> {
        self.files(".sst")
    }

    pub(crate) fn size_of_table(&self, number: u64) -> u64 {
        self.fs.file_size(&table_path(number)).expect("it is there")
    }

    /// With threads, a table may be unlinked after it was listed: its bytes do not count.
    pub(crate) fn bytes_of_tables(&self) -> u64 {
        let sizes = self.tables().into_iter().map(|number| self.fs.file_size(&table_path(number)));
        sizes.filter_map(Result::ok).sum()
    }

    /// Nothing is open: every checksum and count, and the directory against MANIFEST.
    pub(crate) fn verify(&self) {
        let report = verify_directory(DIR, &self.options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert!(report.notes.is_empty(), "{:?}", report.notes);
        self.assert_no_bugs();
    }

    /// The engine reports files that were gone before it unlinked them, and suchlike, as bugs.
    pub(crate) fn assert_no_bugs(&self) {
        let lines = self.lines.0.lock().expect("whole");
        assert!(!lines.iter().any(|line| line.contains("bug")), "{lines:?}");
    }

    /// The directory holds the tables of MANIFEST, one MANIFEST, and nothing that is half done.
    pub(crate) fn assert_disk_is_manifest(&self) {
        let (live, number) = manifest_tables(&self.fs);
        assert_eq!(self.tables(), live, "tables on disk, and tables in MANIFEST-{number:06}");
        let names: Vec<String> = self.fs.paths().iter().filter_map(|p| Some(p.file_name()?.to_str()?.into())).collect();
        let manifests: Vec<_> = names.iter().filter(|name| name.starts_with("MANIFEST-")).collect();
        assert_eq!(manifests, [&format!("MANIFEST-{number:06}")]);
        assert!(!names.iter().any(|name| name.contains("tmp")), "{names:?}");
    }
}

fn table_path(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:06}.sst"))
}

fn field(item: &Item, wanted: &str) -> Option<u64> {
    item.fields.iter().find_map(|(name, value)| match value {
        Field::Number(number) if name == wanted => Some(*number),
        _ => None,
    })
}

/// The tables that the MANIFEST named by CURRENT names, and that MANIFEST's number.
pub(crate) fn manifest_tables(fs: &MemoryFs) -> (BTreeSet<u64>, u64) {
    let current = fs.read_whole(&Path::new(DIR).join("CURRENT"), 100).expect("there is a CURRENT");
    let name = String::from_utf8(current).expect("text").trim().to_owned();
    let number = name.strip_prefix("MANIFEST-").and_then(|number| number.parse().ok()).expect("a MANIFEST");
    let mut families: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut family = 0;
    inspect::manifest(fs, &Path::new(DIR).join(name), &mut |item| {
        match item.title {
            "edit" => {
                family = field(&item, "family").expect("every edit is of a family");
                if item.fields.iter().any(|(name, _)| name == "dropped") {
                    families.remove(&family);
                }
            }
            "new file" => {
                families.entry(family).or_default().insert(field(&item, "file").expect("a number"));
            }
            "deleted file" => {
                families.entry(family).or_default().remove(&field(&item, "file").expect("a number"));
            }
            _ => {}
        }
        Ok(())
    })
    .expect("a whole MANIFEST");
    (families.into_values().flatten().collect(), number)
}

/// The entries of all live tables, in the order of their keys: what a compaction left, whatever the files are called.
pub(crate) fn entries_in_tables(fs: &MemoryFs) -> Vec<String> {
    let mut entries = Vec::new();
    for number in manifest_tables(fs).0 {
        inspect::sst(fs, &table_path(number), &mut |item| {
            if item.title == "entry" {
                entries.push(format!("{:?}", item.fields));
            }
            Ok(())
        })
        .expect("a whole table");
    }
    entries.sort();
    entries
}

/// Everything that an iterator yields.
pub(crate) fn collect(iter: impl Iterator<Item = Result<(firndb::Slice, firndb::Slice)>>) -> Map {
    iter.map(|entry| entry.expect("reads go well")).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

pub(crate) fn contents(family: &ColumnFamily) -> Map {
    let forward = collect(family.iter().expect("it opens"));
    let back = collect(family.iter().expect("it opens").rev());
    assert_eq!(forward, back, "both ways");
    forward
}

pub(crate) fn all(db: &Db) -> Map {
    contents(db.default_column_family())
}

/// Works until nothing is left to do.
pub(crate) fn settle(db: &Db) {
    while db.run_background_step() {}
}

/// `count` keys with a value each that says which round wrote it.
pub(crate) fn fill(db: &Db, count: usize, round: &str) -> Map {
    let mut map = Map::new();
    for number in 0..count {
        let (key, value) = (format!("key{number:04}"), format!("{round} {number} {}", "x".repeat(number % 40)));
        db.put(&key, &value).expect("written");
        map.insert(key.into_bytes(), value.into_bytes());
    }
    map
}

pub(crate) use firndb_testkit::eventually;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
