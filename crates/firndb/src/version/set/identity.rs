//! The database's id and the session's.

use crate::clock::Clock;
use crate::error::Result;
use crate::format::file_name;
use crate::format::key::FileNumber;

use super::VersionSetConfig;

/// RocksDB writes 36 bytes.
const IDENTITY_BYTES_MAX: u64 = 4096;
const BASE_36: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The text of IDENTITY, without the newline that some releases wrote; `None` if there is none.
pub(super) fn read(config: &VersionSetConfig) -> Result<Option<String>> {
    match config.fs.read_whole(&config.dir.join(file_name::IDENTITY), IDENTITY_BYTES_MAX) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn write(config: &VersionSetConfig, id: &str) -> Result<()> {
    // No file has the number 0, so the name is free.
    let temp = config.dir.join(file_name::temp(FileNumber(0)));
    config.fs.write_atomically(&config.dir.join(file_name::IDENTITY), &temp, id.as_bytes())
}

/// A random UUID (version 4) in its usual spelling.
pub(super) fn new_db_id(clock: &dyn Clock) -> String {
    let high = clock.random() & !0xF000 | 0x4000;
    let low = clock.random() & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// Eight digits, then twelve that stay below 2^62: what RocksDB can take apart again for a table's unique id.
pub(super) fn new_session_id(clock: &dyn Clock) -> String {
    let mut digits = [0u8; 20];
    for (part, mut value) in [(0..8, clock.random()), (8..20, clock.random() >> 2)] {
        for digit in digits[part].iter_mut().rev() {
            *digit = BASE_36[(value % 36) as usize];
            value /= 36;
        }
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}
