//! What the tests of several themes need: the text form written a second time, damage that keeps its checksums.

use std::path::Path;

/// What the issue says of escaped text, written a second time.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let c = (1..=rest.len().min(4)).find_map(|len| std::str::from_utf8(&rest[..len]).ok()?.chars().next());
        match c {
            Some('\\') => out.push_str("\\\\"),
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some(c) if (0x20..0x7f).contains(&u32::from(c)) || u32::from(c) >= 0xa0 => out.push(c),
            _ => {
                out.push_str(&format!("\\x{first:02x}"));
                rest = &rest[1..];
                continue;
            }
        }
        rest = &rest[c.map_or(1, char::len_utf8)..];
    }
    out
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// As records of logs have it, over type and payload.
pub(crate) fn masked_crc(checked: &[u8]) -> u32 {
    crc32c(checked).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A record of a log or MANIFEST, whole in one fragment, as RocksDB's log format has it.
pub(crate) fn log_record(payload: &[u8]) -> Vec<u8> {
    let checked = [&[1][..], payload].concat();
    let crc = masked_crc(&checked);
    let length = u16::try_from(payload.len()).expect("it fits a block");
    [&crc.to_le_bytes()[..], &length.to_le_bytes(), &checked].concat()
}

/// The payloads of a short log's records.
pub(crate) fn log_payloads(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file;
    let mut found = Vec::new();
    while rest.len() >= 7 {
        let end = 7 + usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        found.push(rest[7..end].to_vec());
        rest = &rest[end..];
    }
    found
}

/// Changes the bytes of a file.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("readable");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writable");
}
