//! Blocks that were read before they were asked for: a scan reads larger pieces than blocks.
//!
//! Flow: [`super::iter`], for a block that is not cached -> **[`ReadAhead`]** -> [`super::source`]. Once a few blocks in a row
//! were not cached, the next read is longer than its block, and each further one twice as long, up to a bound and not
//! beyond the end that the scan has.

use crate::error::{CorruptionKind, Error, Result};

use super::layout::BlockHandle;
use super::reader_options::TableReadOptions;
use super::source::Source;

/// Blocks in a row that were not cached before reading ahead begins.
const SEQUENTIAL_READS: u32 = 2;
/// Fewer bytes than this between two blocks make the second one start at a page's border: they still come in a row.
const ALIGNMENT_MAX: u64 = 4096;
const READ_AHEAD_FIRST: usize = 16 << 10;
const READ_AHEAD_MAX: usize = 256 << 10;

/// Bytes of the file that were read before they were asked for.
#[derive(Default)]
pub(super) struct ReadAhead {
    start: u64,
    bytes: Vec<u8>,
    /// Uncached blocks in a row, and where the last one ended.
    in_a_row: u32,
    next: u64,
    window: usize,
}

impl ReadAhead {
    #[cfg(test)]
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The stored bytes of a block. `end` is where the blocks end that the scan may come to.
    pub(super) fn read(
        &mut self,
        source: &Source,
        handle: BlockHandle,
        end: u64,
        is_forward: bool,
        options: &TableReadOptions,
    ) -> Result<Vec<u8>> {
        let len = source.footer.stored_len(handle).map_err(|error| source.at(error, handle.offset))?;
        let buffered = |ahead: &ReadAhead| {
            let start = usize::try_from(handle.offset.checked_sub(ahead.start)?).ok()?;
            ahead.bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        };
        let gap = handle.offset.checked_sub(self.next);
        self.in_a_row = if gap.is_some_and(|gap| gap < ALIGNMENT_MAX) { self.in_a_row + 1 } else { 0 };
        self.next = handle.offset + len as u64;
        if let Some(stored) = buffered(self) {
            return Ok(stored);
        }
        let window = match options.read_ahead {
            _ if !is_forward => 0,
            0 if self.in_a_row < SEQUENTIAL_READS => 0,
            0 => {
                self.window = (self.window * 2).clamp(READ_AHEAD_FIRST, READ_AHEAD_MAX);
                self.window
            }
            asked => asked,
        };
        let window = window.min(usize::try_from(end.saturating_sub(handle.offset)).unwrap_or(usize::MAX));
        if window <= len {
            return source.stored(handle);
        }
        // Taken out while it is being filled: a read that fails leaves an empty window, not one of other bytes.
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(window, 0);
        let filled = source.file.read_at(handle.offset, &mut bytes)?;
        bytes.truncate(filled);
        self.start = handle.offset;
        self.bytes = bytes;
        buffered(self).ok_or_else(|| {
            Error::corrupt_at(
                CorruptionKind::Truncated,
                &source.context.path,
                handle.offset,
                format!("{filled} bytes of a block of {len}: the file is shorter than its size says"),
            )
        })
    }
}
