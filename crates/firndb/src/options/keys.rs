//! Every option that has a name in RocksDB's OPTIONS file: how it is written, and how it is read.
//!
//! Flow: OPTIONS text, or `set_options` by name -> **[`FamilyKey`]** -> [`FamilyOptions`], and back. One table each for
//! families and for the database; whatever goes through all options (reading, writing, comparing) goes through these.
//!
//! What RocksDB can do and this engine cannot is no error when it comes from a file: the nearest thing is taken, and the
//! text stays as it is.
//!
//! Source: RocksDB `options/cf_options.cc`, `options/db_options.cc`, `table/block_based/block_based_table_factory.cc`,
//! `options/options_helper.cc`.

use crate::format::compression::Compression;
use crate::format::merge::MergeRule;
use crate::format::prefix::PrefixExtractor;
use crate::iter::filter::FilterRule;
use crate::version::edit::LEVELS_MAX;

use super::family::THIRTY_DAYS_S;
use super::{
    CompactionOptionsFifo, CompactionOptionsUniversal, CompactionPri, CompactionStopStyle, CompactionStyle,
    FamilyOptions, IndexType, Options, nested,
};

/// In which section of a family a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// `CFOptions`.
    Family,
    /// `TableOptions/BlockBasedTable`.
    Table,
}

/// Why a value cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No RocksDB writes it.
    Nonsense,
    /// It makes sense, but not to this version.
    NotSupported(String),
}

type Taken = Result<(), Unfit>;

fn put<T>(field: &mut T, value: Result<T, Unfit>) -> Taken {
    *field = value?;
    Ok(())
}

/// One option of a family.
pub(crate) struct FamilyKey {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    /// It can change while the database is open.
    pub(crate) is_mutable: bool,
    pub(crate) show: fn(&FamilyOptions) -> String,
    pub(crate) take: fn(&mut FamilyOptions, &str) -> Taken,
}

/// One option of the database.
pub(crate) struct DatabaseKey {
    pub(crate) name: &'static str,
    pub(crate) show: fn(&Options) -> String,
    pub(crate) take: fn(&mut Options, &str) -> Taken,
}

/// A field that holds a number; RocksDB's numbers may end in a letter for their unit.
macro_rules! number {
    ($place:ident, $is_mutable:literal, $field:ident) => {
        FamilyKey {
            name: stringify!($field),
            place: Place::$place,
            is_mutable: $is_mutable,
            show: |options| options.$field.to_string(),
            take: |options, text| put(&mut options.$field, number(text)),
        }
    };
}

macro_rules! flag {
    ($place:ident, $is_mutable:literal, $field:ident) => {
        FamilyKey {
            name: stringify!($field),
            place: Place::$place,
            is_mutable: $is_mutable,
            show: |options| options.$field.to_string(),
            take: |options, text| put(&mut options.$field, flag(text)),
        }
    };
}

/// A field that is a part of something: RocksDB writes six digits.
macro_rules! part {
    ($field:ident) => {
        FamilyKey {
            name: stringify!($field),
            place: Place::Family,
            is_mutable: true,
            show: |options| format!("{:.6}", options.$field),
            take: |options, text| put(&mut options.$field, real(text)),
        }
    };
}

macro_rules! of_database {
    ($field:ident, $parse:path) => {
        DatabaseKey {
            name: stringify!($field),
            show: |options| options.$field.to_string(),
            take: |options, text| put(&mut options.$field, $parse(text)),
        }
    };
}

/// The options of a family but for its comparator, which MANIFEST decides.
pub(crate) const FAMILY: &[FamilyKey] = &[
    FamilyKey {
        name: "merge_operator",
        place: Place::Family,
        is_mutable: false,
        show: |options| merge_text(options.merge_operator.as_ref()),
        take: |options, text| put(&mut options.merge_operator, merge_rule(text)),
    },
    FamilyKey {
        name: "compaction_filter_factory",
        place: Place::Family,
        is_mutable: false,
        show: |options| {
            options
                .compaction_filter_factory
                .as_ref()
                .map_or_else(|| "nullptr".to_owned(), |rule| rule.name().to_owned())
        },
        take: |options, text| put(&mut options.compaction_filter_factory, Ok(filter_rule(text))),
    },
    number!(Family, true, write_buffer_size),
    number!(Family, true, max_write_buffer_number),
    number!(Family, true, level0_file_num_compaction_trigger),
    number!(Family, true, level0_slowdown_writes_trigger),
    number!(Family, true, level0_stop_writes_trigger),
    number!(Family, true, soft_pending_compaction_bytes_limit),
    number!(Family, true, hard_pending_compaction_bytes_limit),
    FamilyKey {
        name: "num_levels",
        place: Place::Family,
        is_mutable: false,
        show: |options| options.num_levels.to_string(),
        take: |options, text| match number::<u32>(text)? {
            0 => Err(Unfit::Nonsense),
            levels if levels > LEVELS_MAX => {
                Err(Unfit::NotSupported(format!("this version has at most {LEVELS_MAX} levels")))
            }
            levels => put(&mut options.num_levels, Ok(levels)),
        },
    },
    number!(Family, true, target_file_size_base),
    number!(Family, true, max_bytes_for_level_base),
    FamilyKey {
        name: "max_bytes_for_level_multiplier",
        place: Place::Family,
        is_mutable: true,
        show: |options| options.max_bytes_for_level_multiplier.to_string(),
        take: |options, text| put(&mut options.max_bytes_for_level_multiplier, real(text)),
    },
    flag!(Family, false, level_compaction_dynamic_level_bytes),
    flag!(Family, true, disable_auto_compactions),
    FamilyKey {
        name: "compaction_style",
        place: Place::Family,
        is_mutable: false,
        show: |options| style_name(options.compaction_style).to_owned(),
        take: |options, text| {
            let style = STYLES.iter().find(|(name, _)| *name == text).ok_or(Unfit::Nonsense)?;
            put(&mut options.compaction_style, Ok(style.1))
        },
    },
    FamilyKey {
        name: "compaction_pri",
        place: Place::Family,
        is_mutable: false,
        show: |options| {
            let named = PRIS.iter().find(|(_, known)| *known == options.compaction_pri);
            named.map_or("", |(name, _)| *name).to_owned()
        },
        take: |options, text| {
            let pri = PRIS.iter().find(|(name, _)| *name == text).ok_or(Unfit::Nonsense)?;
            put(&mut options.compaction_pri, Ok(pri.1))
        },
    },
    FamilyKey {
        name: UNIVERSAL,
        place: Place::Family,
        is_mutable: true,
        show: |options| show_inner(INNER_UNIVERSAL, &options.compaction_options_universal),
        take: |options, text| take_inner(INNER_UNIVERSAL, &mut options.compaction_options_universal, text),
    },
    FamilyKey {
        name: FIFO,
        place: Place::Family,
        is_mutable: true,
        show: |options| show_inner(INNER_FIFO, &options.compaction_options_fifo),
        take: |options, text| match number(text) {
            // As RocksDB once wrote it.
            Ok(bytes) => put(&mut options.compaction_options_fifo.max_table_files_size, Ok(bytes)),
            Err(_) => take_inner(INNER_FIFO, &mut options.compaction_options_fifo, text),
        },
    },
    FamilyKey {
        name: "ttl",
        place: Place::Family,
        is_mutable: true,
        show: |options| options.ttl.to_string(),
        take: |options, text| put(&mut options.ttl, seconds(text, THIRTY_DAYS_S)),
    },
    FamilyKey {
        name: "periodic_compaction_seconds",
        place: Place::Family,
        is_mutable: true,
        show: |options| options.periodic_compaction_seconds.to_string(),
        take: |options, text| put(&mut options.periodic_compaction_seconds, seconds(text, 0)),
    },
    FamilyKey {
        name: "compression",
        place: Place::Family,
        is_mutable: true,
        show: |options| codec_name(options.compression).to_owned(),
        take: |options, text| put(&mut options.compression, codec(text)),
    },
    FamilyKey {
        name: "compression_per_level",
        place: Place::Family,
        is_mutable: true,
        show: |options| {
            let names: Vec<_> = options.compression_per_level.iter().map(|level| codec_name(*level)).collect();
            names.join(":")
        },
        take: |options, text| {
            let names = text.split(':').filter(|name| !name.is_empty());
            put(&mut options.compression_per_level, names.map(codec).collect())
        },
    },
    FamilyKey {
        name: "bottommost_compression",
        place: Place::Family,
        is_mutable: true,
        show: |options| options.bottommost_compression.map_or(NO_CODEC_OF_ITS_OWN, codec_name).to_owned(),
        take: |options, text| {
            let own = (text != NO_CODEC_OF_ITS_OWN).then(|| codec(text)).transpose();
            put(&mut options.bottommost_compression, own)
        },
    },
    number!(Table, true, block_size),
    number!(Table, true, block_restart_interval),
    FamilyKey {
        name: "filter_policy",
        place: Place::Table,
        is_mutable: true,
        show: |options| match (options.bloom_bits_per_key, options.bloom_before_level) {
            (None, _) => "nullptr".to_owned(),
            (Some(bits), None) => format!("bloomfilter:{bits}:false"),
            (Some(bits), Some(level)) => format!("ribbonfilter:{bits}:{level}"),
        },
        take: |options, text| {
            (options.bloom_bits_per_key, options.bloom_before_level) = filter(text)?;
            Ok(())
        },
    },
    flag!(Table, true, whole_key_filtering),
    FamilyKey {
        name: "prefix_extractor",
        place: Place::Family,
        is_mutable: true,
        show: |options| options.prefix_extractor.map_or_else(|| "nullptr".to_owned(), |prefixes| prefixes.to_string()),
        take: |options, text| put(&mut options.prefix_extractor, Ok(PrefixExtractor::from_name(text))),
    },
    FamilyKey {
        name: "index_type",
        place: Place::Table,
        is_mutable: true,
        show: |options| {
            match options.index_type {
                IndexType::BinarySearch => INDEXES[0],
                IndexType::TwoLevel => INDEXES[1],
            }
            .to_owned()
        },
        take: |options, text| match INDEXES.iter().position(|name| *name == text) {
            Some(1) => put(&mut options.index_type, Ok(IndexType::TwoLevel)),
            // The others have the same index, and something beside it.
            Some(_) => put(&mut options.index_type, Ok(IndexType::BinarySearch)),
            None => Err(Unfit::Nonsense),
        },
    },
    number!(Table, true, metadata_block_size),
    flag!(Table, true, partition_filters),
    flag!(Family, true, enable_blob_files),
    number!(Family, true, min_blob_size),
    number!(Family, true, blob_file_size),
    FamilyKey {
        name: "blob_compression_type",
        place: Place::Family,
        is_mutable: true,
        show: |options| codec_name(options.blob_compression_type).to_owned(),
        take: |options, text| put(&mut options.blob_compression_type, codec(text)),
    },
    flag!(Family, true, enable_blob_garbage_collection),
    part!(blob_garbage_collection_age_cutoff),
    part!(blob_garbage_collection_force_threshold),
    number!(Family, true, blob_file_starting_level),
    number!(Table, true, format_version),
];

/// The options of the database that live on in its OPTIONS file. Those of one opening do not: whether to make what is
/// missing, what to do about damaged logs, whether closing flushes.
pub(crate) const DATABASE: &[DatabaseKey] = &[
    DatabaseKey {
        name: "max_open_files",
        show: |options| options.max_open_files.to_string(),
        // RocksDB's default, -1, sets no limit; so does ours, as far as the process has descriptors.
        take: |options, text| match text.parse::<i64>().map_err(|_| Unfit::Nonsense)? {
            ..0 => Ok(()),
            some => put(&mut options.max_open_files, Ok(usize::try_from(some).unwrap_or(usize::MAX))),
        },
    },
    of_database!(max_background_jobs, number),
    of_database!(max_total_wal_size, number),
    DatabaseKey {
        name: "wal_compression",
        show: |options| codec_name(options.wal_compression).to_owned(),
        // RocksDB, too, writes logs with zstd only.
        take: |options, text| {
            let codec = Some(codec(text)?).filter(|codec| *codec == Compression::Zstd && codec.is_writable());
            put(&mut options.wal_compression, Ok(codec.unwrap_or(Compression::None)))
        },
    },
    of_database!(db_write_buffer_size, number),
    of_database!(max_manifest_file_size, number),
    of_database!(atomic_flush, flag),
];

/// What to write where somebody asks for `name`, which is no name of a family's option in OPTIONS: those are RocksDB's.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    Some(match name {
        "bloom_bits_per_key" | "bloom_bits" | "filter" => {
            "its name is filter_policy: filter_policy=bloomfilter:10:false"
        }
        "compression_type" => "its name is compression",
        "table_factory" => "options of tables are changed by block_based_table_factory={…}, or alone",
        "cache_index_and_filter_blocks" => "it is of the whole database, and said at open: Options",
        name if DATABASE.iter().any(|key| key.name == name) => {
            "it is of the whole database, and cannot change while that is open"
        }
        _ => return None,
    })
}

/// Which values the option takes, as one writes them; empty if its name says it.
pub(super) fn values_of(name: &str) -> String {
    let codecs = || {
        let writable = CODECS.iter().filter(|(_, codec)| codec.is_writable());
        writable.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    match name {
        "compression" | "blob_compression_type" => format!("one of {}", codecs()),
        "compression_per_level" => format!("some of {}, with a colon between them", codecs()),
        "bottommost_compression" => format!("one of {}, {NO_CODEC_OF_ITS_OWN}", codecs()),
        "filter_policy" => {
            "bloomfilter:<bits a key>:false, ribbonfilter:<bits a key>:<first level> or nullptr".to_owned()
        }
        "index_type" => format!("{} or {}", INDEXES[0], INDEXES[1]),
        "prefix_extractor" => {
            "rocksdb.FixedPrefix.<bytes>, rocksdb.CappedPrefix.<bytes>, rocksdb.Noop or nullptr".to_owned()
        }
        UNIVERSAL => {
            format!("some of {}, in braces", show_inner(INNER_UNIVERSAL, &CompactionOptionsUniversal::default()))
        }
        FIFO => format!("some of {}, in braces", show_inner(INNER_FIFO, &CompactionOptionsFifo::default())),
        "disable_auto_compactions"
        | "whole_key_filtering"
        | "partition_filters"
        | "enable_blob_files"
        | "enable_blob_garbage_collection" => "true or false".to_owned(),
        "blob_garbage_collection_age_cutoff" | "blob_garbage_collection_force_threshold" => "0 to 1".to_owned(),
        "max_bytes_for_level_multiplier" => "a number".to_owned(),
        _ => "a whole number, perhaps with one of k, m, g, t behind it".to_owned(),
    }
}

/// A family's key by RocksDB's name.
pub(crate) fn family_key(name: &str) -> Option<&'static FamilyKey> {
    FAMILY.iter().find(|key| key.name == name)
}

const INDEXES: [&str; 4] = ["kBinarySearch", "kTwoLevelIndexSearch", "kHashSearch", "kBinarySearchWithFirstKey"];
const UNIVERSAL: &str = "compaction_options_universal";
const FIFO: &str = "compaction_options_fifo";

/// An option inside of another one's braces.
struct InnerKey<T> {
    name: &'static str,
    show: fn(&T) -> String,
    take: fn(&mut T, &str) -> Taken,
}

macro_rules! inner {
    ($field:ident, $parse:path) => {
        InnerKey {
            name: stringify!($field),
            show: |options| options.$field.to_string(),
            take: |options, text| put(&mut options.$field, $parse(text)),
        }
    };
}

const INNER_UNIVERSAL: &[InnerKey<CompactionOptionsUniversal>] = &[
    inner!(size_ratio, number),
    inner!(min_merge_width, number),
    inner!(max_merge_width, number),
    inner!(max_size_amplification_percent, number),
    inner!(compression_size_percent, signed),
    InnerKey {
        name: "stop_style",
        show: |options| {
            let named = STOP_STYLES.iter().find(|(_, known)| *known == options.stop_style);
            named.map_or("", |(name, _)| *name).to_owned()
        },
        take: |options, text| {
            let style = STOP_STYLES.iter().find(|(name, _)| *name == text).ok_or(Unfit::Nonsense)?;
            put(&mut options.stop_style, Ok(style.1))
        },
    },
    inner!(allow_trivial_move, flag),
];

const INNER_FIFO: &[InnerKey<CompactionOptionsFifo>] =
    &[inner!(max_table_files_size, number), inner!(allow_compaction, flag)];

const PRIS: [(&str, CompactionPri); 5] = [
    ("kByCompensatedSize", CompactionPri::ByCompensatedSize),
    ("kOldestLargestSeqFirst", CompactionPri::OldestLargestSeqFirst),
    ("kOldestSmallestSeqFirst", CompactionPri::OldestSmallestSeqFirst),
    ("kMinOverlappingRatio", CompactionPri::MinOverlappingRatio),
    ("kRoundRobin", CompactionPri::RoundRobin),
];

const STOP_STYLES: [(&str, CompactionStopStyle); 2] = [
    ("kCompactionStopStyleSimilarSize", CompactionStopStyle::SimilarSize),
    ("kCompactionStopStyleTotalSize", CompactionStopStyle::TotalSize),
];

fn show_inner<T>(keys: &[InnerKey<T>], options: &T) -> String {
    nested::shown(keys.iter().map(|key| (key.name, (key.show)(options))))
}

/// Takes what is known in there; what is not named stays as it is.
fn take_inner<T>(keys: &[InnerKey<T>], options: &mut T, text: &str) -> Taken {
    for (name, value) in nested::pairs(text).ok_or(Unfit::Nonsense)? {
        if let Some(key) = keys.iter().find(|key| key.name == name) {
            (key.take)(options, value)?;
        }
    }
    Ok(())
}

/// The first option inside of `text`, a value of the key `name`, that this version does not have.
pub(crate) fn unknown_inner<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let is_known = |inner: &str| match name {
        UNIVERSAL => INNER_UNIVERSAL.iter().any(|key| key.name == inner),
        FIFO => INNER_FIFO.iter().any(|key| key.name == inner),
        _ => true,
    };
    nested::pairs(text)?.into_iter().map(|(inner, _)| inner).find(|inner| !is_known(inner))
}

/// RocksDB's largest numbers of seconds leave the choice to it.
fn seconds(text: &str, usual: u64) -> Result<u64, Unfit> {
    number(text).map(|seconds: u64| if seconds >= u64::MAX - 1 { usual } else { seconds })
}

fn signed(text: &str) -> Result<i32, Unfit> {
    text.trim().parse().map_err(|_| Unfit::Nonsense)
}

const STYLES: [(&str, CompactionStyle); 4] = [
    ("kCompactionStyleLevel", CompactionStyle::Level),
    ("kCompactionStyleUniversal", CompactionStyle::Universal),
    ("kCompactionStyleFIFO", CompactionStyle::Fifo),
    ("kCompactionStyleNone", CompactionStyle::None),
];

fn style_name(style: CompactionStyle) -> &'static str {
    STYLES.iter().find(|(_, known)| *known == style).map_or("kCompactionStyleLevel", |(name, _)| *name)
}

/// As RocksDB writes it: the name, or the name and the delimiter, which nothing escapes.
fn merge_text(rule: Option<&MergeRule>) -> String {
    match rule {
        None => "nullptr".to_owned(),
        Some(rule @ MergeRule::StringAppend { delimiter }) => {
            format!("{{id={};delimiter={};}}", rule.name(), String::from_utf8_lossy(delimiter))
        }
        Some(rule) => rule.name().to_owned(),
    }
}

/// An operator that is not RocksDB's has only its name here: whoever opens the directory has to give it.
fn merge_rule(text: &str) -> Result<Option<MergeRule>, Unfit> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let (name, delimiter) = match inner.and_then(|inner| inner.strip_prefix("id=")) {
        None => (text, None),
        Some(inner) => match inner.split_once(';') {
            None => (inner, None),
            Some((name, rest)) => {
                let delimiter = rest.strip_prefix("delimiter=");
                (name, delimiter.map(|delimiter| delimiter.strip_suffix(';').unwrap_or(delimiter)))
            }
        },
    };
    Ok(match (name, MergeRule::built_in(name)) {
        ("nullptr" | "", _) => None,
        (_, Some(MergeRule::StringAppend { delimiter: usual })) => {
            Some(MergeRule::StringAppend { delimiter: delimiter.map_or(usual, |given| given.as_bytes().to_vec()) })
        }
        (_, Some(rule)) => Some(rule),
        (name, None) => Some(MergeRule::Unknown(name.to_owned())),
    })
}

/// A factory has only its name here: whoever opens the directory has to give it. RocksDB writes the options of its own ones
/// behind the name.
fn filter_rule(text: &str) -> Option<FilterRule> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_prefix("id=")).map_or(text, |inner| {
        let end = inner.find([';', '}']).unwrap_or(inner.len());
        &inner[..end]
    });
    (!matches!(inner, "" | "nullptr")).then(|| FilterRule::Unknown(inner.to_owned()))
}

const CODECS: [(&str, Compression); 7] = [
    ("kNoCompression", Compression::None),
    ("kSnappyCompression", Compression::Snappy),
    ("kZlibCompression", Compression::Zlib),
    ("kBZip2Compression", Compression::Bzip2),
    ("kLZ4Compression", Compression::Lz4),
    ("kLZ4HCCompression", Compression::Lz4hc),
    ("kZSTD", Compression::Zstd),
];

const NO_CODEC_OF_ITS_OWN: &str = "kDisableCompressionOption";

fn codec_name(codec: Compression) -> &'static str {
    CODECS.iter().find(|(_, known)| *known == codec).map_or("kNoCompression", |(name, _)| *name)
}

/// The codec of this name, or the nearest that this build can write.
fn codec(text: &str) -> Result<Compression, Unfit> {
    let named = CODECS.iter().find(|(name, _)| *name == text).map(|(_, codec)| *codec);
    let named = match (named, text) {
        (Some(codec), _) => codec,
        (None, "kXpressCompression") => Compression::Lz4,
        (None, "kZSTDNotFinalCompression") => Compression::Zstd,
        // Codecs of the user's own have names like these.
        (None, text) if text.starts_with("kCustomCompression") || text.starts_with("kReserved") => Compression::Zstd,
        (None, _) => return Err(Unfit::Nonsense),
    };
    Ok(nearest(named))
}

/// The codec itself if this build can write it; else one that makes blocks of about the same size.
fn nearest(codec: Compression) -> Compression {
    use Compression::{Bzip2, Lz4, Snappy, Zlib, Zstd};
    let others = match codec {
        Zlib | Bzip2 | Zstd => [Zstd, Zlib, Lz4, Snappy],
        _ => [Lz4, Snappy, Zstd, Zlib],
    };
    std::iter::once(codec).chain(others).find(|codec| codec.is_writable()).unwrap_or_default()
}

/// Bits a key of RocksDB's filters when their text does not say how many.
const USUAL_BITS: f64 = 10.0;

/// Bits a key, and from which level on filters are Ribbon filters. RocksDB takes fewer than half a bit for no filter, and more
/// than 100 for 100. Of a policy that is not known, it is a Bloom filter of as many bits.
fn filter(text: &str) -> Result<(Option<f64>, Option<i32>), Unfit> {
    let id = match text.strip_prefix('{') {
        // As an object: `{id=ribbonfilter:9:2;bloom_before_level=2;}`.
        Some(object) => object
            .trim_end_matches('}')
            .split(';')
            .find_map(|part| part.trim().strip_prefix("id="))
            .ok_or(Unfit::Nonsense)?,
        None => text,
    };
    if id.is_empty() || id == "nullptr" {
        return Ok((None, None));
    }
    let mut parts = id.split(':');
    let name = parts.next().unwrap_or_default();
    let bits = parts.next().map_or(Ok(USUAL_BITS), real)?;
    // As an object, the level stands beside the identifier.
    let beside =
        || text.split(';').find_map(|part| part.trim_start_matches(['{', ' ']).strip_prefix("bloom_before_level="));
    let level = match name.starts_with("ribbonfilter") || name.ends_with("RibbonFilter") {
        true => Some(
            parts
                .next()
                .or_else(beside)
                .map_or(Ok(0), |level| level.trim_end_matches('}').parse::<i32>().map_err(|_| Unfit::Nonsense))?,
        ),
        false => None,
    };
    Ok(((bits >= 0.5).then_some(bits.min(100.0)), level))
}

/// A whole number, perhaps with one of RocksDB's units. Where RocksDB has signed numbers, less than nothing is nothing.
fn number<T: TryFrom<u64>>(text: &str) -> Result<T, Unfit> {
    let text = text.trim();
    if text.strip_prefix('-').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
        return T::try_from(0).map_err(|_| Unfit::Nonsense);
    }
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let value: u64 = digits.parse().map_err(|_| Unfit::Nonsense)?;
    let value = value.checked_mul(1 << shift).ok_or(Unfit::Nonsense)?;
    T::try_from(value).map_err(|_| Unfit::Nonsense)
}

fn real(text: &str) -> Result<f64, Unfit> {
    text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or(Unfit::Nonsense)
}

fn flag(text: &str) -> Result<bool, Unfit> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Unfit::Nonsense),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::comparator::KeyOrder;

    /// A field that is added to the options does not get past this: give it a key, or say here why it has none.
    #[test]
    fn every_field_of_a_family_has_a_key() {
        let FamilyOptions {
            key_order: _, // MANIFEST has it.
            merge_operator: _,
            compaction_filter_factory: _,
            write_buffer_size: _,
            max_write_buffer_number: _,
            level0_file_num_compaction_trigger: _,
            level0_slowdown_writes_trigger: _,
            level0_stop_writes_trigger: _,
            soft_pending_compaction_bytes_limit: _,
            hard_pending_compaction_bytes_limit: _,
            num_levels: _,
            target_file_size_base: _,
            max_bytes_for_level_base: _,
            max_bytes_for_level_multiplier: _,
            level_compaction_dynamic_level_bytes: _,
            disable_auto_compactions: _,
            compaction_style: _,
            compaction_pri: _,
            compaction_options_universal: _,
            compaction_options_fifo: _,
            ttl: _,
            periodic_compaction_seconds: _,
            compression: _,
            compression_per_level: _,
            bottommost_compression: _,
            block_size: _,
            block_restart_interval: _,
            bloom_bits_per_key: _,
            bloom_before_level: _, // With the one above, `filter_policy`.
            whole_key_filtering: _,
            prefix_extractor: _,
            index_type: _,
            metadata_block_size: _,
            partition_filters: _,
            enable_blob_files: _,
            min_blob_size: _,
            blob_file_size: _,
            blob_compression_type: _,
            enable_blob_garbage_collection: _,
            blob_garbage_collection_age_cutoff: _,
            blob_garbage_collection_force_threshold: _,
            blob_file_starting_level: _,
            format_version: _,
        } = FamilyOptions::default();
        assert_eq!(FAMILY.len(), 41);
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let options = FamilyOptions {
            key_order: KeyOrder::Bytewise,
            merge_operator: Some(MergeRule::StringAppend { delimiter: b";}".to_vec() }),
            compaction_filter_factory: Some(FilterRule::Unknown("somebody's".to_owned())),
            write_buffer_size: 123_456,
            max_write_buffer_number: 5,
            level0_file_num_compaction_trigger: 3,
            level0_slowdown_writes_trigger: 7,
            level0_stop_writes_trigger: 9,
            soft_pending_compaction_bytes_limit: 11,
            hard_pending_compaction_bytes_limit: 13,
            num_levels: 5,
            target_file_size_base: 4321,
            max_bytes_for_level_base: 54_321,
            max_bytes_for_level_multiplier: 4.25,
            level_compaction_dynamic_level_bytes: false,
            disable_auto_compactions: true,
            compaction_style: CompactionStyle::Universal,
            compaction_pri: CompactionPri::RoundRobin,
            compaction_options_universal: CompactionOptionsUniversal {
                size_ratio: 2,
                min_merge_width: 3,
                max_merge_width: 4,
                max_size_amplification_percent: 5,
                compression_size_percent: 6,
                stop_style: CompactionStopStyle::SimilarSize,
                allow_trivial_move: true,
            },
            compaction_options_fifo: CompactionOptionsFifo { max_table_files_size: 7, allow_compaction: true },
            ttl: 8,
            periodic_compaction_seconds: 9,
            compression: Compression::None,
            compression_per_level: vec![Compression::None, Compression::None],
            bottommost_compression: Some(Compression::None),
            block_size: 777,
            block_restart_interval: 3,
            bloom_bits_per_key: Some(5.5),
            bloom_before_level: Some(-1),
            whole_key_filtering: false,
            prefix_extractor: Some(PrefixExtractor::Capped(7)),
            index_type: IndexType::TwoLevel,
            metadata_block_size: 555,
            partition_filters: true,
            enable_blob_files: true,
            min_blob_size: 10,
            blob_file_size: 12,
            blob_compression_type: Compression::None,
            enable_blob_garbage_collection: true,
            blob_garbage_collection_age_cutoff: 0.5,
            blob_garbage_collection_force_threshold: 0.75,
            blob_file_starting_level: 2,
            format_version: 4,
        };
        let mut again = FamilyOptions::default();
        let differs = |key: &&FamilyKey| (key.show)(&options) != (key.show)(&FamilyOptions::default());
        assert_eq!(FAMILY.iter().filter(differs).count(), FAMILY.len() - 2, "all but the codecs differ");
        for key in FAMILY {
            (key.take)(&mut again, &(key.show)(&options)).expect(key.name);
        }
        for key in FAMILY {
            assert_eq!((key.show)(&again), (key.show)(&options), "{}", key.name);
        }
        let (options, mut again) =
            (Options { max_open_files: 99, atomic_flush: true, ..Options::default() }, Options::default());
        for key in DATABASE {
            (key.take)(&mut again, &(key.show)(&options)).expect(key.name);
            assert_eq!((key.show)(&again), (key.show)(&options), "{}", key.name);
        }
    }

    #[test]
    fn filters_and_codecs_that_cannot_be_written_become_the_nearest_that_can() {
        for (text, bits, level) in [
            ("nullptr", None, None),
            ("bloomfilter:10:false", Some(10.0), None),
            ("bloomfilter:0.3:false", None, None),
            ("ribbonfilter:9:2", Some(9.0), Some(2)),
            ("ribbonfilter:9", Some(9.0), Some(0)),
            ("{id=ribbonfilter:9.5:-1;bloom_before_level=-1;}", Some(9.5), Some(-1)),
            ("{bloom_before_level=3;id=ribbonfilter:9.5;}", Some(9.5), Some(3)),
            ("rocksdb.BuiltinBloomFilter", Some(10.0), None),
            ("rocksdb.internal.FastLocalBloomFilter:200", Some(100.0), None),
        ] {
            assert_eq!(filter(text), Ok((bits, level)), "{text}");
        }
        for text in ["bloomfilter:many", "ribbonfilter:9:some"] {
            assert_eq!(filter(text), Err(Unfit::Nonsense), "{text}");
        }
        assert_eq!(codec("kSomething"), Err(Unfit::Nonsense));
        #[cfg(feature = "lz4")]
        assert_eq!(codec("kXpressCompression"), Ok(Compression::Lz4));
    }

    #[test]
    fn numbers_have_rocksdbs_units_and_signs() {
        for (text, value) in [("7", Ok(7)), ("64k", Ok(65536)), ("1G", Ok(1 << 30)), ("-1", Ok(0))] {
            assert_eq!(number::<u64>(text), value, "{text}");
        }
        for text in ["", "x", "1.5", "-", "k", "99999999999999999999", "18446744073709551615k"] {
            assert_eq!(number::<u64>(text), Err(Unfit::Nonsense), "{text:?}");
        }
        assert_eq!(flag("yes"), Err(Unfit::Nonsense));
        assert_eq!(real("inf"), Err(Unfit::Nonsense));
    }
}
