//! The write-ahead logs that are alive: the current one, and older ones that unflushed memtables still need.
//!
//! Invariants: (1) A log begins only when the one before it is durable to its last byte. So what survives a power loss is a
//! prefix; a sync of the current log makes everything before it durable; and of a full memtable, whose log ended with it,
//! nothing can be lost but with its log and its table. (2) A log that failed is never appended to again.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name;
use crate::format::key::FileNumber;
use crate::fs::{CreateMode, Fs};
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::version::set::hold::Piece;
use crate::wal::writer::LogWriter;

/// The device gets a log in pieces of this size, while it grows: its sync, at the latest when the next log begins, then
/// has little to wait for.
const WRITE_BACK_BYTES: u64 = 1 << 20;

/// See the module's text.
#[derive(Debug)]
pub(super) struct WalSet {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    statistics: Arc<Statistics>,
    is_compressed: bool,
    /// `None` before the first switch.
    current: Option<LogWriter>,
    number: FileNumber,
    has_unsynced: bool,
    /// Bytes of the current log whose writing to the device has begun.
    begun: u64,
    /// Older logs and their sizes, oldest first.
    older: Vec<(FileNumber, u64)>,
}

impl WalSet {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf, statistics: Arc<Statistics>, is_compressed: bool) -> WalSet {
        WalSet {
            fs,
            dir,
            statistics,
            is_compressed,
            current: None,
            number: FileNumber(0),
            has_unsynced: false,
            begun: 0,
            older: Vec::new(),
        }
    }

    /// The current log's number.
    pub(super) fn number(&self) -> FileNumber {
        self.number
    }

    /// Bytes of all logs.
    pub(super) fn bytes(&self) -> u64 {
        self.older.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.current.as_ref().map_or(0, LogWriter::size)
    }

    /// All logs, oldest first, with what the operating system has of them.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let older = self.older.iter().map(|(number, bytes)| Piece { number: *number, bytes: *bytes });
        let current = self.current.iter().map(|log| Piece { number: self.number, bytes: log.file().size() });
        older.chain(current).collect()
    }

    /// The oldest log.
    pub(super) fn oldest(&self) -> FileNumber {
        self.older.first().map_or(self.number, |(number, _)| *number)
    }

    /// Begins a new log; its directory entry is durable on return.
    pub(super) fn switch(&mut self, number: FileNumber) -> Result<()> {
        // The old log first, to its last byte: a power loss that kept the new one's records and cut the old one off
        // between two of its own would leave a hole that nothing shows. Once a memtable, not once a write.
        self.sync()?;
        let path = self.dir.join(file_name::wal(number));
        let file = self.fs.create(&path, CreateMode::New)?;
        if let Err(error) = self.fs.sync_dir(&self.dir) {
            // Nothing was written to it, and the next try makes another.
            let _ = self.fs.remove_file(&path);
            return Err(error);
        }
        if let Some(old) = self.current.take() {
            self.older.push((self.number, old.file().size()));
        }
        let mut log = LogWriter::new(file, None);
        if self.is_compressed {
            log.compress();
        }
        // Records gather until `hand_over`: one append a group.
        log.set_buffered(true);
        self.current = Some(log);
        self.number = number;
        self.has_unsynced = false;
        self.begun = 0;
        Ok(())
    }

    /// Forgets the current log without touching it again: it failed, and nothing in it is needed.
    pub(super) fn abandon(&mut self) {
        if let Some(old) = self.current.take() {
            // What was buffered never came to the file.
            self.older.push((self.number, old.file().size()));
        }
        self.has_unsynced = false;
    }

    /// True if the current log is as it was made: empty, and whole.
    pub(super) fn is_fresh(&self) -> bool {
        self.current.as_ref().is_some_and(|log| !log.has_records() && !log.has_failed())
    }

    fn log(&mut self) -> Result<&mut LogWriter> {
        self.current.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "there is no write-ahead log yet"))
    }

    /// Adds a record to the buffer.
    #[inline]
    pub(super) fn add(&mut self, record: &[u8]) -> Result<()> {
        self.log()?.add_record(record)?;
        self.has_unsynced = true;
        self.statistics.add(Ticker::WalFileBytes, record.len() as u64);
        Ok(())
    }

    /// Hands what is buffered to the operating system.
    #[inline]
    pub(super) fn hand_over(&mut self) -> Result<()> {
        match &mut self.current {
            Some(log) => {
                log.flush_buffer()?;
                let size = log.size();
                if size - self.begun >= WRITE_BACK_BYTES {
                    log.file().start_write_back(self.begun, size - self.begun);
                    self.begun = size;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Makes all records durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        if !self.has_unsynced {
            return Ok(());
        }
        self.hand_over()?;
        let log = self.log()?;
        if let Err(error) = log.file().sync_data() {
            log.poison(error.clone());
            return Err(error);
        }
        self.statistics.add(Ticker::WalFileSynced, 1);
        self.has_unsynced = false;
        Ok(())
    }

    /// Takes out the logs below `needed`, with their sizes: they are obsolete.
    pub(super) fn release(&mut self, needed: FileNumber) -> Vec<(FileNumber, u64)> {
        let (gone, kept) = std::mem::take(&mut self.older).into_iter().partition(|(number, _)| *number < needed);
        self.older = kept;
        gone
    }
}
