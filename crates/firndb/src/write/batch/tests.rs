use super::*;

fn sample() -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(b"cherry", b"dark").put_cf(ColumnFamilyId(300), b"", b"").delete(b"x");
    batch.delete_cf(ColumnFamilyId(1), b"y").single_delete_cf(ColumnFamilyId::DEFAULT, b"z");
    batch.delete_range(b"a", b"c").delete_range_cf(ColumnFamilyId(7), b"", b"m");
    batch.merge(b"m", b"1").merge_cf(ColumnFamilyId(1), b"", b"2");
    batch.set_sequence(SequenceNumber(4));
    batch
}

#[test]
fn a_put_has_the_bytes_that_rocksdb_7_8_3_writes() {
    let mut batch = WriteBatch::new();
    batch.put(b"cherry", b"dark").set_sequence(SequenceNumber(4));
    let expected = b"\x04\0\0\0\0\0\0\0\x01\0\0\0\x01\x06cherry\x04dark";
    assert_eq!(batch.as_bytes(), expected);
}

#[test]
fn operations_come_back_in_order() {
    let batch = WriteBatch::from_bytes(sample().as_bytes()).expect("sound");
    let all: Vec<_> = batch.operations().map(|operation| operation.expect("sound")).collect();
    assert_eq!(batch.sequence(), SequenceNumber(4));
    assert_eq!(all.len(), 9);
    assert_eq!((all[5].kind, all[5].key, all[5].value), (ValueKind::RangeDeletion, &b"a"[..], &b"c"[..]));
    assert_eq!((all[6].family, all[6].key, all[6].value), (ColumnFamilyId(7), &b""[..], &b"m"[..]));
    assert_eq!((all[7].kind, all[7].key, all[7].value), (ValueKind::Merge, &b"m"[..], &b"1"[..]));
    assert_eq!((all[8].family, all[8].kind, all[8].value), (ColumnFamilyId(1), ValueKind::Merge, &b"2"[..]));
    assert_eq!((all[0].key, all[0].value), (&b"cherry"[..], &b"dark"[..]));
    assert_eq!((all[1].family, all[1].kind), (ColumnFamilyId(300), ValueKind::Value));
    assert_eq!((all[4].key, all[4].kind), (&b"z"[..], ValueKind::SingleDeletion));
}

#[test]
fn a_cut_batch_is_refused_everywhere() {
    let batch = sample();
    for cut in 0..batch.as_bytes().len() {
        assert_eq!(
            WriteBatch::from_bytes(&batch.as_bytes()[..cut]).expect_err("cut").kind(),
            ErrorKind::Corruption,
            "cut at {cut}"
        );
    }
}

#[test]
fn what_this_version_cannot_resolve_is_refused_by_name() {
    for (record, name) in [(&b"\x18\x01a\x01b"[..], "timed put"), (b"\x09", "two-phase")] {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[8] = 1;
        bytes.extend_from_slice(record);
        let error = WriteBatch::from_bytes(&bytes).expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains(name), "{error}");
    }
    let mut bytes = vec![0; HEADER_LEN];
    bytes[8] = 1;
    bytes.extend_from_slice(b"\x16\x01a\x02\x01\x07");
    assert_eq!(WriteBatch::from_bytes(&bytes).expect_err("no entity").kind(), ErrorKind::Corruption);
    let mut bytes = vec![0; HEADER_LEN];
    bytes.push(0x7E);
    assert_eq!(WriteBatch::from_bytes(&bytes).expect_err("unknown").kind(), ErrorKind::Corruption);
}

#[test]
fn records_of_logs_are_read_whatever_they_are_and_may_be_put_together_again() {
    let mut bytes = sample().as_bytes().to_vec();
    bytes[8] += 2;
    bytes.extend_from_slice(b"\x09\x16\x01e\x02ab\x0a\x02id\x0b\x02id\x0c\x01x\x15\x03now\x02id\x18\x01t\x01v\x12\x0d");
    let (mut marks, mut again) = (Vec::new(), WriteBatch::new());
    let read = WriteBatch::read(&bytes, &mut |record, raw| {
        match record {
            Record::Operation(_) => again.push_record(raw)?,
            Record::Transaction(mark) => marks.push(format!("{mark:?}")),
            Record::Nothing => {}
        }
        Ok(())
    });
    assert_eq!(read.expect("sound"), (SequenceNumber(4), 11));
    assert_eq!(marks.len(), 6, "{marks:?}");
    assert_eq!(marks[2], format!("{:?}", TransactionMark::Committed(b"id")));
    let kinds: Vec<_> = again.operations().map(|operation| operation.expect("sound").kind).collect();
    assert_eq!(kinds.len(), 11);
    assert_eq!(kinds[9..], [ValueKind::WideColumnEntity, ValueKind::ValuePreferredSeqno]);
    for cut in 0..bytes.len() - 2 {
        let error = WriteBatch::read(&bytes[..cut], &mut |_, _| Ok(())).expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {cut}");
    }
}

#[test]
fn log_data_and_noops_count_nothing() {
    let mut bytes = sample().as_bytes().to_vec();
    bytes.extend_from_slice(b"\x0d\x03\x02hi");
    assert_eq!(WriteBatch::from_bytes(&bytes).expect("sound").operations().count(), 9);
}

fn shown(batch: &WriteBatch) -> String {
    let of = |operation: WriteOperation<'_>| {
        let key = operation.key().unwrap_or_default().escape_ascii().to_string();
        match operation {
            WriteOperation::Put { value, .. } => format!("{key}={}", value.escape_ascii()),
            WriteOperation::PutEntity { entity, .. } => {
                format!("{key}{:?}", crate::Columns::parse(entity).expect("sound"))
            }
            WriteOperation::Merge { operand, .. } => format!("{key}+{}", operand.escape_ascii()),
            WriteOperation::DeleteRange { end, .. } => format!("-{key}..{}", end.escape_ascii()),
            WriteOperation::Delete { .. } => format!("-{key}"),
            WriteOperation::SingleDelete { .. } => format!("~{key}"),
            WriteOperation::LogData(data) => format!("({})", data.escape_ascii()),
        }
    };
    batch.iter().map(|operation| of(operation.expect("sound"))).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_sort_of_operation_is_shown_with_its_family() {
    let mut batch = sample();
    batch.put_log_data("note").put_entity("p", [("y", "2"), ("", "1")]);
    assert_eq!(shown(&batch), "cherry=dark = -x -y ~z -a..c -..m m+1 +2 (note) p{\"\": \"1\", \"y\": \"2\"}");
    let families: Vec<_> = batch.iter().map(|op| op.expect("sound").family().map(|id| id.0)).collect();
    let expected = [0, 300, 0, 1, 0, 0, 7, 0, 1].map(Some).into_iter().chain([None, Some(0)]);
    assert_eq!(families, expected.collect::<Vec<_>>());
    assert_eq!((batch.len(), batch.data_size()), (10, batch.as_bytes().len()));
    assert_eq!(WriteBatch::from_bytes(batch.as_bytes()).expect("sound").len(), 10);
    batch.put_entity("p", [("y", "2"), ("y", "1")]);
    assert_eq!(batch.check().expect_err("twice").kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_rollback_takes_back_what_came_after_the_save_point_and_nothing_else() {
    let mut batch = WriteBatch::with_protection();
    assert_eq!(batch.rollback_to_save_point().expect_err("none").kind(), ErrorKind::InvalidArgument);
    assert_eq!(batch.pop_save_point().expect_err("none").kind(), ErrorKind::InvalidArgument);
    batch.put("a", "1").set_save_point().put("b", "2").put_log_data("x").set_save_point();
    batch.put("c", vec![0; KEY_BYTES_MAX + 1]).put(vec![0; KEY_BYTES_MAX + 1], "");
    assert_eq!(batch.check().expect_err("long").kind(), ErrorKind::Limit);
    batch.rollback_to_save_point().expect("there is one");
    batch.check().expect("the long key is gone");
    assert_eq!((shown(&batch), batch.len()), ("a=1 b=2 (x)".to_owned(), 2));
    batch.set_save_point().delete("d").pop_save_point().expect("there is one");
    batch.rollback_to_save_point().expect("the first one");
    assert_eq!((shown(&batch), batch.len()), ("a=1".to_owned(), 1));
    assert!(batch.pop_save_point().is_err());
    batch.set_save_point().clear();
    assert!(batch.is_empty() && batch.pop_save_point().is_err(), "an empty batch has no past");
    let other = FamilyRef::of_database(ColumnFamilyId(1), 8);
    batch.put_cf(FamilyRef::of_database(ColumnFamilyId(1), 7), "k", "v").set_save_point().put_cf(other, "k", "v");
    assert!(batch.check_database(7).is_err());
    batch.rollback_to_save_point().expect("there is one");
    batch.check_database(7).expect("the other database's handle is gone");
}

#[test]
fn a_rollback_does_not_decide_whether_the_batch_was_written() {
    let mut batch = WriteBatch::new();
    batch.put("a", "1").set_save_point().put("b", "2");
    batch.settle::<()>(&Err(Error::new(ErrorKind::DurabilityUnknown, "lost")));
    batch.rollback_to_save_point().expect("there is one");
    assert_eq!(batch.check().expect_err("in doubt").kind(), ErrorKind::InvalidArgument);
    batch.allow_repeat().check().expect("allowed");
}

#[test]
fn what_is_appended_comes_behind_with_its_obstacles() {
    let mut all: WriteBatch = [("a", "1")].into_iter().collect();
    all.append(&sample()).extend([("z", "9")]);
    assert_eq!(shown(&all), "a=1 cherry=dark = -x -y ~z -a..c -..m m+1 +2 z=9");
    assert_eq!(WriteBatch::from_bytes(all.as_bytes()).expect("sound").len(), 11);
    let of = |database| {
        let mut batch = WriteBatch::new();
        batch.put_cf(FamilyRef::of_database(ColumnFamilyId(1), database), "k", "v");
        batch
    };
    all.append(&of(7)).append(&of(7)).check_database(7).expect("one database");
    assert!(all.append(&of(8)).check_database(7).is_err() && all.check_database(8).is_err());
    let mut long = WriteBatch::new();
    long.put(vec![0; KEY_BYTES_MAX + 1], "");
    assert_eq!(all.append(&long).check().expect_err("long").kind(), ErrorKind::Limit);
}

#[test]
fn every_bit_that_changes_in_a_protected_batch_is_refused() {
    let mut batch = WriteBatch::with_protection();
    batch.append(&sample()).put("k", "v").set_save_point().put("gone", "1");
    batch.rollback_to_save_point().expect("there is one");
    let mut again = WriteBatch::with_protection();
    again.append(&batch);
    again.check().expect("unchanged");
    batch.check().expect("unchanged");
    for at in HEADER_LEN..batch.bytes.len() {
        for bit in 0..8 {
            batch.bytes[at] ^= 1 << bit;
            let error = batch.check().expect_err("a bit has changed");
            // A tag may become that of an operation which no version knows.
            assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotSupported), "{error}");
            batch.bytes[at] ^= 1 << bit;
        }
    }
    let last = batch.bytes.len() - 1;
    batch.bytes[last] ^= 1;
    let error = batch.check().expect_err("a bit has changed").to_string();
    assert!(error.contains("entry 9 (Value of key \"k\" in column family 0)"), "{error}");
    batch.clear();
    batch.put("k", "v").check().expect("still protected");
    batch.bytes[last.min(HEADER_LEN + 3)] ^= 1;
    assert!(batch.check().is_err());
}
