//! One table, read by itself.
//!
//! Flow: [`super::inspect`] (a path, whatever it is) and [`super::verify`] (a table that MANIFEST names) ->
//! **[`OfflineTable`]** -> `table::reader`, with no cache, counters that nobody reads, and every checksum.

use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::ChecksumType;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ParsedKey, SEEK_KIND, SequenceNumber, internal_key};
use crate::fs::Fs;
use crate::iter::InternalIterator;
use crate::iter::range_tombstones::RangeTombstone;
use crate::metrics::Statistics;
use crate::recovery::listing::table_path;
use crate::sync::Arc;
use crate::table::properties::TableProperties;
use crate::table::reader::{TableOpenContext, TableReadOptions, TableReader, properties_of};
use crate::version::edit::FileMeta;
use crate::version::no_table;

/// An open table without a database.
pub(super) struct OfflineTable {
    path: PathBuf,
    reader: Arc<TableReader>,
    is_order_known: bool,
}

/// Entries from `from` on, before `to`; where one is `None`, there is no bound.
pub(super) type Span<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn context(path: &Path, order: KeyOrder) -> TableOpenContext {
    TableOpenContext {
        path: path.to_owned(),
        order,
        cache: BlockCache::new(0),
        statistics: Arc::new(Statistics::default()),
        largest_seq: SequenceNumber::ZERO,
        unique_id: None,
        verify_checksums: true,
        bounds: None,
    }
}

impl OfflineTable {
    /// The table at `path`, in whichever order it is: entries come as they lie there.
    pub(super) fn at(fs: &dyn Fs, path: &Path) -> Result<OfflineTable> {
        let file = fs.open_random(path)?;
        let size = file.size()?;
        // Whatever is wrong with it is said when it is opened.
        let properties = properties_of(&*file, path, size).ok().flatten();
        let name = properties.map_or_else(String::new, |properties| properties.comparator);
        let built_in = [KeyOrder::Bytewise, KeyOrder::ReverseBytewise].into_iter().find(|order| order.name() == name);
        let is_order_known = built_in.is_some() || name.is_empty();
        let order = match built_in {
            Some(order) => order,
            None if name.is_empty() => KeyOrder::Bytewise,
            None => KeyOrder::unknown(&name),
        };
        let reader = TableReader::open(file, size, context(path, order))?;
        Ok(OfflineTable { path: path.to_owned(), reader, is_order_known })
    }

    /// The table in `dir` that MANIFEST describes so.
    pub(super) fn of(fs: &dyn Fs, dir: &Path, order: &KeyOrder, meta: &FileMeta) -> Result<OfflineTable> {
        meta.check_readable(dir)?;
        let path = table_path(fs, dir, meta.number)?;
        let file = match fs.open_random(&path) {
            Err(error) if error.is_not_found() => return Err(no_table(&path)),
            other => other?,
        };
        let context = TableOpenContext {
            largest_seq: meta.largest_seq,
            unique_id: meta.unique_id,
            bounds: Some((meta.smallest.clone(), meta.largest.clone())),
            ..context(&path, order.clone())
        };
        Ok(OfflineTable { reader: TableReader::open(file, meta.size, context)?, path, is_order_known: true })
    }

    pub(super) fn properties(&self) -> &TableProperties {
        self.reader.properties()
    }

    /// Its format_version, and the checksum of its blocks.
    pub(super) fn form(&self) -> (u32, ChecksumType) {
        self.reader.form()
    }

    /// Calls back with the content of every data block.
    pub(super) fn each_content(&self, on_content: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.reader.each_content(on_content)
    }

    /// Calls back with the key and value of every entry of a span, in order.
    ///
    /// # Errors
    /// `NotSupported` if there are bounds, and the table is in an order that is not known.
    pub(super) fn each(
        &self,
        (from, to): Span<'_>,
        on_entry: &mut dyn FnMut(ParsedKey<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let order = self.reader.order();
        if !self.is_order_known && (from.is_some() || to.is_some()) {
            let message = format!("{}: a part of a table in the order of {}", self.path.display(), order.name());
            return Err(Error::new(ErrorKind::NotSupported, message));
        }
        let options = TableReadOptions { fill_cache: false, ..TableReadOptions::default() };
        let mut entries = self.reader.iter(options);
        match from {
            Some(from) => entries.seek(&internal_key(from, SequenceNumber::MAX, SEEK_KIND))?,
            None => entries.seek_to_first()?,
        }
        while entries.valid() {
            let key = ParsedKey::parse(entries.key())?;
            if to.is_some_and(|to| order.compare(key.user_key, to).is_ge()) {
                break;
            }
            on_entry(key, entries.value())?;
            entries.next()?;
        }
        Ok(())
    }

    /// Calls back with every range tombstone that reaches into a span, by begin, the newest first.
    pub(super) fn each_range_tombstone(
        &self,
        (from, to): Span<'_>,
        each: &mut dyn FnMut(&RangeTombstone) -> Result<()>,
    ) -> Result<()> {
        let order = self.reader.order();
        let Some(tombstones) = self.reader.range_tombstones() else { return Ok(()) };
        let mut all: Vec<RangeTombstone> = tombstones.iter().collect();
        all.retain(|one| {
            from.is_none_or(|from| order.compare(&one.end, from).is_gt())
                && to.is_none_or(|to| order.compare(&one.begin, to).is_lt())
        });
        all.sort_by(|a, b| self.reader.order().compare(&a.begin, &b.begin).then(b.sequence.cmp(&a.sequence)));
        all.iter().try_for_each(each)
    }

    /// Reads everything and compares it with what the table and MANIFEST say; the number of entries.
    pub(super) fn check(&self, meta: &FileMeta, is_order_known: bool, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        let order = self.reader.order();
        let counts = self.reader.verify(is_order_known, progress)?;
        if counts.entries == 0 {
            return Ok(0);
        }
        let bad = |what: &str| Err(Error::corrupt_at(CorruptionKind::Order, &self.path, 0, what));
        if is_order_known
            && counts.smallest != meta.smallest
            && order.compare_internal(&counts.smallest, &meta.smallest).is_lt()
        {
            return bad("the first key lies before the bounds that MANIFEST states");
        }
        if is_order_known
            && counts.largest != meta.largest
            && order.compare_internal(&counts.largest, &meta.largest).is_gt()
        {
            return bad("the last key lies after the bounds that MANIFEST states");
        }
        if counts.smallest_seq < meta.smallest_seq || counts.largest_seq > meta.largest_seq {
            return bad("sequence numbers lie outside of what MANIFEST states");
        }
        Ok(counts.entries)
    }
}
