//! What the kind of an entry means: to a reader, and to a job that may drop entries.
//!
//! Flow: an entry of any run -> **[`ToReader`]** in `read::get` (and with it `read::multi_get`) and in both directions of
//! `read::visible`; **[`ToJob`]** in [`super::compaction_iter`]. A kind that gets a meaning gets it here, and the compiler
//! then names every place that has to know about it.
//!
//! Invariant: a kind that has no meaning here is refused by name where it would be the answer. It is never skipped: the
//! entry below it would be an older answer, and a wrong one.

use crate::format::key::ValueKind;

/// What the newest visible entry of a key says of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToReader {
    /// The entry's value is the key's.
    Value,
    /// The key does not exist.
    Nothing,
    /// The key's value is made of this operand, those below it, and what they are based on.
    Operand,
    /// The value has a form of its own, a reference or an entity: who does not know the kind refuses it by name.
    Unresolved(ValueKind),
}

impl ToReader {
    #[inline]
    pub(crate) fn of(kind: ValueKind) -> ToReader {
        match kind {
            ValueKind::Value => ToReader::Value,
            ValueKind::Deletion | ValueKind::SingleDeletion => ToReader::Nothing,
            ValueKind::Merge => ToReader::Operand,
            other => ToReader::Unresolved(other),
        }
    }
}

/// What an entry does to the older entries of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToJob {
    /// Takes the place of all of them.
    Value,
    /// Hides all of them.
    Tombstone,
    /// Hides the one value below it, and goes with it.
    SingleTombstone,
    /// Hides nothing, and becomes one with what is below it.
    Operand,
    /// As a value, if the kind is a reference or an entity; who does not know the kind refuses it by name.
    Unresolved(ValueKind),
}

impl ToJob {
    #[inline]
    pub(crate) fn of(kind: ValueKind) -> ToJob {
        match kind {
            ValueKind::Value => ToJob::Value,
            ValueKind::Deletion => ToJob::Tombstone,
            ValueKind::SingleDeletion => ToJob::SingleTombstone,
            ValueKind::Merge => ToJob::Operand,
            other => ToJob::Unresolved(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte that a file may hold: a kind that was forgotten here could only be one that is refused.
    #[test]
    fn readers_and_jobs_agree_on_which_kinds_have_a_meaning() {
        for kind in (0..=u8::MAX).filter_map(ValueKind::from_byte) {
            let (read, worked) = (ToReader::of(kind), ToJob::of(kind));
            match read {
                ToReader::Value => assert_eq!(worked, ToJob::Value),
                ToReader::Nothing => assert!(matches!(worked, ToJob::Tombstone | ToJob::SingleTombstone), "{kind:?}"),
                ToReader::Operand => assert_eq!(worked, ToJob::Operand),
                ToReader::Unresolved(same) => assert_eq!((worked, same), (ToJob::Unresolved(kind), kind)),
            }
            assert_eq!(read == ToReader::Nothing, kind.is_tombstone(), "{kind:?}");
        }
    }
}
