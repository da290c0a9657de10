use std::path::Path;

use super::*;
use crate::fs::{CreateMode, Fs, MemoryFs, WritableFile};
use crate::wal::writer::LogWriter;

fn written(fs: &MemoryFs, recyclable: Option<u32>, records: &[Vec<u8>]) -> Vec<u8> {
    let path = Path::new("/db/000007.log");
    fs.create_dir_all(Path::new("/db")).expect("dir");
    let mut writer = LogWriter::new(fs.create(path, CreateMode::Truncate).expect("create"), recyclable);
    for record in records {
        writer.add_record(record).expect("append");
    }
    assert_eq!(writer.size(), fs.file_size(path).expect("size"));
    fs.read_whole(path, 1 << 30).expect("read")
}

fn outcomes(bytes: &[u8]) -> Vec<(ReadOutcome, Vec<u8>)> {
    let fs = MemoryFs::default();
    let path = Path::new("/x.log");
    fs.create(path, CreateMode::New).expect("create").append(bytes).expect("append");
    let mut reader = LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
    let mut all = Vec::new();
    let mut record = Vec::new();
    loop {
        let outcome = reader.next(&mut record).expect("no I/O error");
        let is_over =
            matches!(outcome, ReadOutcome::End | ReadOutcome::TruncatedTail { .. } | ReadOutcome::OldRecord { .. });
        all.push((outcome, record.clone()));
        if is_over {
            return all;
        }
    }
}

fn good(bytes: &[u8]) -> Vec<Vec<u8>> {
    let is_record = |outcome: &ReadOutcome| matches!(outcome, ReadOutcome::Record { .. });
    outcomes(bytes).into_iter().filter(|(outcome, _)| is_record(outcome)).map(|(_, record)| record).collect()
}

/// Records whose fragments end at, before and behind every kind of block border.
fn samples() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 100, 32768 - 7 - 107 - 14 - 8 - 7, 0, 32761, 32760, 32755, 40_000, 7, 100_000, 3];
    lengths.iter().enumerate().map(|(i, len)| (0..*len).map(|j| (i * 31 + j) as u8).collect()).collect()
}

#[cfg(feature = "zstd")]
#[test]
fn compressed_records_of_every_length_come_back_and_every_cut_leaves_whole_ones() {
    let (fs, path) = (MemoryFs::new(), Path::new("/000007.log"));
    let mut writer = LogWriter::new(fs.create(path, CreateMode::New).expect("create"), None);
    writer.compress();
    let mut records = samples();
    // What does not shrink, over several blocks.
    let mut state = 1u32;
    records.push(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(100_000)
        .collect(),
    );
    records.push(b"the last".to_vec());
    for record in &records {
        writer.add_record(record).expect("append");
    }
    assert_eq!(writer.size(), fs.file_size(path).expect("size"));
    let bytes = fs.read_whole(path, 1 << 30).expect("read");
    assert!(bytes.len() < 150_000, "{} bytes", bytes.len());
    assert_eq!(good(&bytes), records);
    for cut in (0..bytes.len()).step_by(97) {
        let found = good(&bytes[..cut]);
        assert_eq!(found, records[..found.len()], "cut at {cut}");
    }
}

#[test]
fn records_of_every_length_come_back_in_both_forms() {
    for recyclable in [None, Some(7)] {
        let records = samples();
        assert_eq!(good(&written(&MemoryFs::default(), recyclable, &records)), records);
    }
}

#[test]
fn every_border_length_comes_back() {
    for first in 32_700..32_790usize {
        let records = vec![vec![1; first], vec![2; 20]];
        assert_eq!(good(&written(&MemoryFs::default(), None, &records)), records, "{first}");
    }
}

#[test]
fn a_log_of_rocksdb_7_8_3_reads_byte_for_byte() {
    let bytes = [
        0x91, 0x7a, 0x9d, 0x88, 0x19, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 6, 0x63, 0x68, 0x65, 0x72, 0x72,
        0x79, 4, 0x64, 0x61, 0x72, 0x6b,
    ];
    assert_eq!(good(&bytes), [bytes[7..].to_vec()]);
    assert_eq!(written(&MemoryFs::default(), None, &[bytes[7..].to_vec()]), bytes);
}

#[test]
fn any_cut_gives_a_prefix_and_never_a_wrong_record() {
    let records = samples();
    let bytes = written(&MemoryFs::default(), None, &records);
    for cut in (0..bytes.len()).step_by(97).chain(bytes.len() - 40..bytes.len()) {
        let found = good(&bytes[..cut]);
        assert_eq!(found[..], records[..found.len()], "cut at {cut}");
        assert!(found.len() < records.len());
    }
}

#[test]
fn any_flipped_bit_is_reported_and_never_returned() {
    let records: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i; 5 + usize::from(i)]).collect();
    let bytes = written(&MemoryFs::default(), None, &records);
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let all = outcomes(&damaged);
            let found = good(&damaged);
            assert!(found.len() < records.len(), "byte {position} bit {bit}");
            assert!(found.iter().all(|record| records.contains(record)), "byte {position} bit {bit}");
            let is_told = |(outcome, _): &(ReadOutcome, Vec<u8>)| {
                matches!(outcome, ReadOutcome::Corrupt { .. } | ReadOutcome::TruncatedTail { .. })
            };
            // A last header that turned into zeros could look like preallocated space; a flip cannot make one.
            assert!(all.iter().any(is_told), "byte {position} bit {bit}: {all:?}");
        }
    }
}

#[test]
fn a_recycled_log_ends_at_the_first_old_record() {
    let fs = MemoryFs::default();
    let mut bytes = written(&fs, Some(7), &[b"new".to_vec()]);
    bytes.extend(written(&MemoryFs::default(), Some(6), &[b"old".to_vec()]));
    let all = outcomes(&bytes);
    assert_eq!(all[0].1, b"new");
    assert_eq!(all[1].0, ReadOutcome::OldRecord { offset: 14, in_record: false });
}

#[test]
fn the_middle_of_an_old_record_is_the_end_of_a_recycled_log_and_a_damaged_record_is_not() {
    let old = written(&MemoryFs::default(), Some(6), &[vec![0xee; 500], vec![1; 40_000], vec![2; 300]]);
    let new = written(&MemoryFs::default(), Some(7), &[b"first".to_vec(), b"second".to_vec()]);
    let is_end = |bytes: &[u8]| {
        let fs = MemoryFs::new();
        let path = Path::new("/x.log");
        fs.create(path, CreateMode::New).expect("create").append(bytes).expect("append");
        let mut reader = LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
        let mut record = Vec::new();
        loop {
            match reader.next(&mut record).expect("memory") {
                ReadOutcome::Record { .. } => {}
                ReadOutcome::Corrupt { offset, .. } => return reader.is_end_of_recycled(offset).expect("memory"),
                other => panic!("{other:?}"),
            }
        }
    };
    let recycled = [&new[..], &old[new.len()..]].concat();
    assert!(is_end(&recycled), "nothing is wrong with it");
    let second = RECYCLABLE_HEADER_LEN + 5;
    for at in second..new.len() {
        let mut damaged = recycled.clone();
        damaged[at] ^= 0x10;
        // A length that still lies in the block, or any other flip: the record is known by its number or checksum.
        assert!(!is_end(&damaged), "byte {at}");
    }
}

/// A log that grows while it is read: its first bytes, and a reader of it.
fn growing(bytes: &[u8]) -> (Arc<dyn WritableFile>, LogReader) {
    let fs = MemoryFs::new();
    let path = Path::new("/x.log");
    let file = fs.create(path, CreateMode::New).expect("create");
    file.append(bytes).expect("append");
    (file, LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7))
}

/// The whole records from where the reader stands, and what ended them.
fn rest(reader: &mut LogReader) -> (Vec<Vec<u8>>, ReadOutcome) {
    let (mut all, mut record) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&mut record).expect("no I/O error") {
            ReadOutcome::Record { .. } => all.push(record.clone()),
            other => return (all, other),
        }
    }
}

#[test]
fn a_reader_goes_on_behind_each_record_as_one_that_never_stopped() {
    for recyclable in [None, Some(7)] {
        let records = samples();
        let (_file, mut reader) = growing(&written(&MemoryFs::default(), recyclable, &records));
        let mut positions = vec![reader.position()];
        while matches!(reader.next(&mut Vec::new()).expect("memory"), ReadOutcome::Record { .. }) {
            positions.push(reader.position());
        }
        assert_eq!(positions.len(), records.len() + 1);
        // Backward, too: what the reader held of later blocks is not taken for an earlier one.
        for (read, position) in positions.iter().enumerate().rev() {
            reader.resume(*position).expect("within the file");
            assert_eq!(reader.position(), *position);
            assert_eq!(rest(&mut reader).0, records[read..], "behind record {read}");
        }
    }
}

#[test]
fn what_is_appended_after_the_end_was_met_is_found_wherever_the_end_was() {
    let records = samples();
    let bytes = written(&MemoryFs::default(), None, &records);
    for cut in (0..bytes.len()).step_by(5_003).chain([7, 32_761, 32_768, 65_536, bytes.len()]) {
        let (file, mut reader) = growing(&bytes[..cut]);
        let (mut found, end) = rest(&mut reader);
        assert!(matches!(end, ReadOutcome::End | ReadOutcome::TruncatedTail { .. }), "cut at {cut}: {end:?}");
        file.append(&bytes[cut..]).expect("append");
        let position = reader.position();
        reader.resume(position).expect("the file grew");
        found.extend(rest(&mut reader).0);
        assert!(found == records, "cut at {cut}");
    }
}

#[test]
fn a_log_that_lost_what_was_read_from_it_is_refused_at_that_offset() {
    let bytes = written(&MemoryFs::default(), None, &samples());
    let (_file, mut whole) = growing(&bytes);
    rest(&mut whole);
    let position = whole.position();
    assert_eq!(position.offset(), bytes.len() as u64);
    for cut in [0, 100, 32_768, bytes.len() - 1] {
        let (_file, mut shorter) = growing(&bytes[..cut]);
        let error = shorter.resume(position).expect_err("too short");
        assert_eq!(error.corruption().expect("corruption").offset, Some(position.offset()), "cut at {cut}");
        assert_eq!(shorter.position(), LogPosition::default());
    }
    // A position at a block's start is no exception: nothing is read there either way.
    let (_file, mut block) = growing(&written(&MemoryFs::default(), None, &[vec![1; BLOCK_LEN - LEGACY_HEADER_LEN]]));
    rest(&mut block);
    let position = block.position();
    assert_eq!(position.offset(), BLOCK_LEN as u64);
    block.resume(position).expect("at the end");
    assert_eq!(rest(&mut block), (Vec::new(), ReadOutcome::End));
    assert!(growing(&bytes[..100]).1.resume(position).is_err());
}

#[test]
fn a_resumed_reader_knows_the_end_of_a_recycled_log_from_damage() {
    let old = written(&MemoryFs::default(), Some(6), &[vec![0xee; 500], vec![1; 40_000], vec![2; 300]]);
    let new = written(&MemoryFs::default(), Some(7), &[b"first".to_vec(), b"second".to_vec()]);
    let (_file, mut reader) = growing(&[&new[..], &old[new.len()..]].concat());
    rest(&mut reader);
    let position = reader.position();
    assert_eq!(position.offset(), new.len() as u64);
    let (_file, mut later) = growing(&[&new[..], &old[new.len()..]].concat());
    later.resume(position).expect("within the file");
    // Not one record of the new log was read by this reader.
    let (found, ReadOutcome::Corrupt { offset, .. }) = rest(&mut later) else { panic!("the middle of a record") };
    assert!(found.is_empty() && later.is_end_of_recycled(offset).expect("memory"));
}

#[test]
fn zeros_behind_the_end_are_the_end() {
    for zeros in [7, 4096, 32768, 100_000] {
        let mut bytes = written(&MemoryFs::default(), None, &[b"a".to_vec()]);
        bytes.resize(bytes.len() + zeros, 0);
        let all = outcomes(&bytes);
        assert_eq!((all.len(), &all[1].0), (2, &ReadOutcome::End), "{zeros} zeros");
    }
}

#[test]
fn zeros_with_something_behind_them_are_a_hole() {
    let records: Vec<Vec<u8>> = (0..4000u32).map(|i| vec![i as u8; 41]).collect();
    let bytes = written(&MemoryFs::default(), None, &records);
    for (begin, len) in [(480, 7), (480, 48), (480, 8192), (480, 32768), (32768, 4096), (32768, 32768), (480, 120_000)]
    {
        let mut damaged = bytes.clone();
        damaged[begin..begin + len].fill(0);
        let all = outcomes(&damaged);
        let before = all.iter().position(|(outcome, _)| !matches!(outcome, ReadOutcome::Record { .. }));
        let (at, hole) = (before.expect("a hole"), &all[before.expect("a hole")].0);
        assert!(
            matches!(hole, ReadOutcome::Corrupt { offset, .. } if *offset == begin as u64),
            "{begin} {len}: {hole:?}"
        );
        assert_eq!(
            all[..at].iter().map(|(_, record)| record).collect::<Vec<_>>(),
            records[..at].iter().collect::<Vec<_>>()
        );
        // Whoever skips what is damaged finds what is behind.
        assert!(all[at..].iter().any(|(_, record)| *record == records[3999]), "{begin} {len}");
    }
}

/// A log whose first record names a codec, and whose others are the frames of `records`.
#[cfg(feature = "zstd")]
fn compressed(recyclable: Option<u32>, codec: u8, records: &[Vec<u8>]) -> Vec<u8> {
    use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
    let frames = records.iter().map(|record| compress_slice_to_vec(record, CompressionLevel::Level(1)));
    let all: Vec<Vec<u8>> = std::iter::once(vec![codec, 0, 0, 0]).chain(frames).collect();
    let mut bytes = written(&MemoryFs::default(), recyclable, &all);
    if recyclable.is_some() {
        // That record has the short header: what the number took is no longer there.
        bytes.splice(7..11, []);
    }
    bytes[6] = kind::SET_COMPRESSION;
    let crc = crate::format::checksum::mask(crc32c_parts(&[&bytes[6..11]]));
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
#[cfg(feature = "zstd")]
fn records_of_compressed_logs_come_back_and_a_cut_loses_only_what_it_cuts() {
    let records: Vec<Vec<u8>> = [0, 1, 100, 40_000, 200_000, 3]
        .iter()
        .map(|len| {
            let mut state = 1_u64;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u8
            };
            (0..*len).map(|_| next()).collect()
        })
        .collect();
    let bytes = compressed(None, 7, &records);
    assert!(bytes.len() > 4 * BLOCK_LEN, "some have several fragments");
    assert_eq!(good(&bytes), records);
    for cut in (0..bytes.len()).step_by(997) {
        let found = good(&bytes[..cut]);
        assert!(found[..] == records[..found.len()], "cut at {cut}");
        assert!(outcomes(&bytes[..cut]).iter().all(|(outcome, _)| !matches!(outcome, ReadOutcome::Corrupt { .. })));
    }
    // Short ones, so that the border of a block is none: a recycled log has them, too.
    assert_eq!(good(&compressed(Some(7), 7, &records[..3])), records[..3]);
    // A reader that goes on knows it.
    let fs = MemoryFs::default();
    let path = Path::new("/x.log");
    fs.create(path, CreateMode::New).expect("create").append(&bytes).expect("append");
    let open = || LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
    let (mut reader, mut record) = (open(), Vec::new());
    (0..4).for_each(|_| drop(reader.next(&mut record).expect("readable")));
    let mut other = open();
    other.resume(reader.position()).expect("within the file");
    other.next(&mut record).expect("readable");
    assert!(record == records[4]);
}

#[test]
#[cfg(feature = "zstd")]
fn a_codec_that_nobody_uses_is_refused_and_one_in_the_middle_is_damage() {
    let fs = MemoryFs::default();
    let path = Path::new("/x.log");
    let file = fs.create(path, CreateMode::New).expect("create");
    file.append(&compressed(None, 4, &[vec![1]])).expect("append");
    let mut reader = LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
    let error = reader.next(&mut Vec::new()).expect_err("another codec");
    assert!(error.kind() == ErrorKind::NotSupported && error.to_string().contains("codec 4"), "{error}");
    let plain = written(&MemoryFs::default(), None, &[vec![5; 9]]);
    let mixed = [&plain[..], &compressed(None, 7, &[vec![1]])].concat();
    let found = outcomes(&mixed);
    assert_eq!(found[0].1, vec![5; 9]);
    assert!(matches!(&found[1].0, ReadOutcome::Corrupt { reason, .. } if reason.contains("compressed")), "{found:?}");
    // Bytes with the right checksum that are no frame.
    let mut frames = compressed(None, 7, &[vec![9; 50]]);
    let at = 11 + 7;
    frames[at] ^= 1;
    let crc = crate::format::checksum::mask(crc32c_parts(&[&frames[at - 1..]]));
    frames[11..15].copy_from_slice(&crc.to_le_bytes());
    let found = outcomes(&frames);
    assert!(matches!(&found[0].0, ReadOutcome::Corrupt { reason, .. } if reason.contains("zstd")), "{found:?}");
}
