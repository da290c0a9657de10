//! Flushes and compactions that a caller asks for, and waits for.

use crate::error::Result;
use crate::sync::Arc;

use super::core::{Core, Family};

impl Core {
    /// Makes everything that was written to a family so far durable in tables.
    pub(super) fn flush(&self, family: &Family) -> Result<()> {
        self.check_open()?;
        let flushed = self.writer()?.flusher.flush(&[family.id()]);
        self.resources.outbox.deliver();
        flushed
    }

    /// Merges a range of a family down to its last level, or all of it if it is not leveled.
    pub(super) fn compact_range(&self, family: &Arc<Family>, begin: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        self.flush(family)?;
        let compacted = self.writer()?.compactor.compact_range(family, begin, end);
        self.resources.outbox.deliver();
        compacted
    }
}
