//! Two-phase transactions in logs: their operations take effect where they are committed.
//!
//! Flow: a record of a log -> **[`Undecided::effects`]** -> a batch of what takes effect there -> [`super::replay`].
//!
//! A transaction of the policy `WRITE_COMMITTED` writes its operations into the log when it is prepared, between two marks, and
//! its name when it is committed or rolled back. Prepared operations use up no sequence number; committed ones take those from
//! their commit on. One that is not decided at the end of the logs is somebody's promise: a reader does not see it, and whoever
//! would replace the logs refuses.
//!
//! Source: RocksDB wiki "Two Phase Commit Implementation".

use std::collections::BTreeMap;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::key::{FileNumber, SequenceNumber};
use crate::write::batch::{Record, TransactionMark, WriteBatch};

/// What a replay is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The logs are replaced by what was read of them: what is not understood is refused.
    Writing,
    /// What is not understood is carried along, and met by whoever asks for it.
    Reading,
}

/// Prepared transactions that are neither committed nor rolled back, so far.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    all: BTreeMap<Vec<u8>, (FileNumber, WriteBatch)>,
}

impl Undecided {
    /// The operations that take effect with a record of `log`, numbered from the record's sequence number on.
    ///
    /// # Errors
    /// `Corruption` for what no RocksDB writes; `NotSupported` for transactions of other policies, and, for writing, for
    /// operations that this version cannot carry on.
    pub(super) fn effects(&mut self, record: &[u8], log: FileNumber, purpose: Purpose) -> Result<WriteBatch> {
        let mut has_marks = false;
        WriteBatch::read(record, &mut |part, _| {
            match part {
                Record::Transaction(_) => has_marks = true,
                Record::Operation(operation) if purpose == Purpose::Writing && !operation.is_ours() => {
                    return Err(operation.kind.unsupported());
                }
                Record::Operation(_) | Record::Nothing => {}
            }
            Ok(())
        })?;
        match has_marks {
            false => Ok(WriteBatch::of_log(record)),
            true => self.decided(record, log),
        }
    }

    #[cold]
    fn decided(&mut self, record: &[u8], log: FileNumber) -> Result<WriteBatch> {
        let malformed = |what: &str| Error::corrupt(CorruptionKind::Malformed, what);
        let wrong = |what: &str| Err(malformed(what));
        let mut effects = WriteBatch::new();
        let mut prepared: Option<WriteBatch> = None;
        let (sequence, _) = WriteBatch::read(record, &mut |part, raw| {
            match part {
                Record::Nothing => {}
                Record::Operation(_) => prepared.as_mut().unwrap_or(&mut effects).push_record(raw)?,
                Record::Transaction(TransactionMark::Begin) if prepared.is_some() => {
                    return wrong("a transaction begins within another one");
                }
                Record::Transaction(TransactionMark::Begin) => prepared = Some(WriteBatch::new()),
                Record::Transaction(TransactionMark::BeginInTables) => return Err(other_policy()),
                Record::Transaction(TransactionMark::Prepared(name)) => match prepared.take() {
                    Some(batch) => drop(self.all.insert(name.to_vec(), (log, batch))),
                    None => return wrong("a transaction ends that did not begin"),
                },
                // One that is not there was prepared in a log that is needed no more.
                Record::Transaction(TransactionMark::Committed(name)) => {
                    if let Some((_, batch)) = self.all.remove(name) {
                        WriteBatch::read(batch.as_bytes(), &mut |_, raw| effects.push_record(raw))?;
                    }
                }
                Record::Transaction(TransactionMark::RolledBack(name)) => drop(self.all.remove(name)),
            }
            Ok(())
        })?;
        if prepared.is_some() {
            return Err(malformed("a transaction begins and does not end"));
        }
        effects.set_sequence(sequence);
        Ok(effects)
    }

    /// `NotSupported`, by name, if there is one.
    pub(super) fn refuse(&self, place: impl Fn(FileNumber) -> String) -> Result<()> {
        let Some((name, (log, _))) = self.all.iter().next() else { return Ok(()) };
        let message = format!(
            "{}: the log holds the two-phase transaction {:?}, which is prepared and not decided: commit it or roll it back \
             with the program that prepared it, before anything else is written",
            place(*log),
            String::from_utf8_lossy(name)
        );
        Err(Error::new(ErrorKind::NotSupported, message))
    }
}

#[cold]
fn other_policy() -> Error {
    let what =
        "the log holds a two-phase transaction of another policy than WRITE_COMMITTED, which this version cannot read";
    Error::new(ErrorKind::NotSupported, what)
}

/// The sequence number behind a batch, if there is such a number.
pub(super) fn end_of(batch: &WriteBatch) -> Option<SequenceNumber> {
    let end = batch.sequence().0.checked_add(u64::from(batch.count()))?;
    (end <= SequenceNumber::LIMIT.0).then_some(SequenceNumber(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: FileNumber = FileNumber(4);

    fn record(sequence: u8, count: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        (bytes[0], bytes[8]) = (sequence, count);
        bytes.extend_from_slice(rest);
        bytes
    }

    fn keys(batch: &WriteBatch) -> Vec<u8> {
        batch.operations().map(|operation| operation.expect("sound").key[0]).collect()
    }

    #[test]
    fn operations_take_effect_where_they_are_committed_and_not_before() {
        let mut open = Undecided::default();
        let mut effects = |bytes: &[u8]| open.effects(bytes, LOG, Purpose::Reading).expect("sound");
        // Of two transactions and an operation beside them.
        let prepared = effects(&record(5, 3, b"\x01\x01a\0\x09\x01\x01b\0\x0a\x01x\x09\x00\x01c\x0a\x01y"));
        assert_eq!((keys(&prepared), prepared.sequence().0), (b"a".to_vec(), 5));
        let committed = effects(&record(6, 1, b"\x0b\x01x\x01\x01d\0\x0c\x01y\x0b\x01z"));
        assert_eq!((keys(&committed), committed.sequence().0, committed.count()), (b"bd".to_vec(), 6, 2));
        assert!(open.refuse(|_| String::new()).is_ok());
        open.effects(&record(8, 1, b"\x09\x00\x01c\x0a\x01y"), LOG, Purpose::Writing).expect("sound");
        let error = open.refuse(|log| log.to_string()).expect_err("undecided");
        assert!(error.to_string().contains("000004") && error.to_string().contains("\"y\""), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_refused_to_writers_and_what_nobody_writes_to_all() {
        let effects = |bytes: &[u8], purpose| {
            Undecided::default().effects(bytes, LOG, purpose).map(drop).map_err(|error| error.kind()).err()
        };
        let timed = record(1, 1, b"\x18\x01a\x01b");
        assert_eq!(effects(&timed, Purpose::Reading), None);
        assert_eq!(effects(&timed, Purpose::Writing), Some(ErrorKind::NotSupported));
        for (rest, kind) in [
            (&b"\x12\x0a\x01x"[..], ErrorKind::NotSupported),
            (b"\x13\x0a\x01x", ErrorKind::NotSupported),
            (b"\x09\x09", ErrorKind::Corruption),
            (b"\x0a\x01x", ErrorKind::Corruption),
            (b"\x09", ErrorKind::Corruption),
        ] {
            assert_eq!(effects(&record(1, 0, rest), Purpose::Reading), Some(kind), "{rest:?}");
        }
    }
}
