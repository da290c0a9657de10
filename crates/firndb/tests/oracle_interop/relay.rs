//! A database that goes from hand to hand, and what it must be after every turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firndb::{CompactionStyle, Compression, Fs, PosixFs};
use firndb_testkit::{Random, from_environment};

use crate::firn;
use crate::model::{Model, Op};
use crate::rocks::{
    Release, assert_same_dump, check_with_tools, dump_script, dump_text, files, format_version, script, try_drive,
};

/// How a turn ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum End {
    Close,
    /// What was not flushed is in the log.
    LeaveLog,
}

/// What a turn is written with.
#[derive(Clone, Copy)]
pub(crate) struct Codec {
    pub(crate) ours: Compression,
    pub(crate) theirs: &'static str,
}

pub(crate) const NONE: Codec = Codec { ours: Compression::None, theirs: "kNoCompression" };
pub(crate) const SNAPPY: Codec = Codec { ours: Compression::Snappy, theirs: "kSnappyCompression" };
pub(crate) const ZLIB: Codec = Codec { ours: Compression::Zlib, theirs: "kZlibCompression" };
pub(crate) const LZ4: Codec = Codec { ours: Compression::Lz4, theirs: "kLZ4Compression" };
pub(crate) const LZ4HC: Codec = Codec { ours: Compression::Lz4hc, theirs: "kLZ4HCCompression" };
pub(crate) const ZSTD: Codec = Codec { ours: Compression::Zstd, theirs: "kZSTD" };

/// What turns were seen to leave behind: a test that compares less than it says must fail.
#[derive(Default, Debug)]
pub(crate) struct Seen(BTreeMap<String, usize>);

impl Seen {
    fn note(&mut self, what: &str, count: usize) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }

    pub(crate) fn require(&self, what: &str, at_least: usize) {
        let found = self.0.get(what).copied().unwrap_or_default();
        assert!(found >= at_least, "{what}: {found}, which is too little to compare: {self:?}");
    }
}

/// A database that goes from hand to hand.
pub(crate) struct Relay<'a> {
    pub(crate) label: String,
    seed: u64,
    pub(crate) random: Random,
    pub(crate) model: Model,
    pub(crate) dir: PathBuf,
    has_families: bool,
    /// The package of 11.1 was built with zstd only.
    pub(crate) eleven_has_codec: bool,
    pub(crate) ops_max: usize,
    /// Of families that this engine makes: RocksDB is opened with these for all of them.
    pub(crate) num_levels: u32,
    pub(crate) style: CompactionStyle,
    seen: &'a mut Seen,
    turn: usize,
}

impl Relay<'_> {
    pub(crate) fn new<'a>(name: &str, temp: &Path, has_families: bool, codec: Codec, seen: &'a mut Seen) -> Relay<'a> {
        let seed = from_environment("FIRN_SEED").unwrap_or(1);
        // Each database its own history.
        let own = name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let (dir, label) = (temp.join(name), name.to_owned());
        let (random, model) = (Random::new(own), Model::new());
        let eleven_has_codec = matches!(codec.ours, Compression::None | Compression::Zstd);
        Relay {
            label,
            seed,
            random,
            model,
            dir,
            has_families,
            eleven_has_codec,
            ops_max: usize::MAX,
            num_levels: 7,
            style: CompactionStyle::Level,
            seen,
            turn: 0,
        }
    }

    pub(crate) fn label(&mut self, side: &str) -> String {
        self.turn += 1;
        format!("FIRN_SEED={}: {}: turn {}, {side}", self.seed, self.label, self.turn)
    }

    fn ops(&mut self, has_families: bool, has_ranges: bool) -> Vec<Op> {
        let count = (from_environment("FIRN_OPS").unwrap_or(240) as usize).min(self.ops_max);
        let mut ops = self.model.extend(&mut self.random, count, has_families && self.has_families, has_ranges);
        // A flush at the end would leave nothing in the log.
        while !matches!(ops.last(), Some(Op::Write(_))) {
            ops.extend(self.model.extend(&mut self.random, 1, false, false));
        }
        ops
    }

    /// How many tables lie there that nobody uses.
    pub(crate) fn check(&mut self, label: &str, end: End) -> usize {
        let live = firn::check(label, &self.dir, &self.model);
        let verified = check_with_tools(label, &self.dir, &live, self.eleven_has_codec);
        self.seen.note("tables verified by sst_dump", verified);
        for table in &live {
            self.seen.note(&format!("tables of format_version {}", format_version(table)), 1);
        }
        let log_bytes: u64 = files(&self.dir, ".log").iter().map(|log| PosixFs.file_size(log).expect("there")).sum();
        if end == End::LeaveLog && log_bytes > 0 {
            self.seen.note("logs left behind", 1);
        }
        files(&self.dir, ".sst").len() - live.len()
    }

    /// A real RocksDB compares everything, goes on writing, and ends.
    pub(crate) fn rocks(&mut self, release: Release, options: &str, end: End) {
        let label = self.label(&format!("RocksDB {release:?}"));
        let mut text = String::new();
        let exists = PosixFs.exists(&self.dir.join("CURRENT")).expect("readable");
        if exists {
            text.push_str(&format!("options {}\n", self.model.names().join("\t")));
        }
        text.push_str(&format!("open {options}\n{}", dump_script(&self.model)));
        let before = self.model.clone();
        let ops = self.ops(release.knows_families(), release.deletes_ranges());
        // A manual compaction of ours makes levels in a FIFO family, and at one of its own 7.8 then fails an assertion.
        let is_fifo = options.contains("kCompactionStyleFIFO");
        let ops: Vec<Op> = ops.into_iter().filter(|op| !is_fifo || !matches!(op, Op::Compact(_))).collect();
        text.push_str(&script(&ops));
        text.push_str(if end == End::Close { "close\n" } else { "sync\nexit\n" });
        let dump = try_drive(release, &self.dir, &text).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_same_dump(&label, &dump, &dump_text(&before.families));
        self.seen.note("dumps of RocksDB compared", 1);
        self.check(&label, end);
    }

    /// This engine compares everything, goes on writing, and ends.
    pub(crate) fn firn(&mut self, codec: Codec, end: End) {
        let label = self.label("FirnDB");
        let mut options = firn::options(&mut self.random, codec.ours);
        options.family.num_levels = self.num_levels;
        options.family.compaction_style = self.style;
        options.avoid_flush_during_shutdown = end == End::LeaveLog;
        let db = firn::open(&label, &self.dir, options, &self.model);
        if firn::levels(&db) > 1 {
            self.seen.note("several levels found", 1);
        }
        let ops = self.ops(true, true);
        firn::apply(&label, &db, &ops);
        if end == End::Close {
            // Whatever chance did: something in the last level, and something above it.
            firn::apply(&label, &db, &[Op::Compact("default".to_owned())]);
            let more = self.model.extend(&mut self.random, 20, false, true);
            firn::apply(&label, &db, &more);
            firn::apply(&label, &db, &[Op::Flush("default".to_owned())]);
        }
        firn::compare(&label, &db, &self.model);
        if firn::levels(&db) > 1 {
            self.seen.note("several levels left", 1);
        }
        db.close().unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(self.check(&label, end), 0, "{label}: what we do not use, we remove");
    }
}
