//! Operands: who makes values of them, when, and what happens where nobody can.

use firndb::{Db, ErrorKind, MergeFailure, MergeOperator, MergeRule, ReadOptions};

use crate::lab::{Lab, Map, all, collect, settle};

fn append() -> MergeRule {
    MergeRule::StringAppend { delimiter: b",".to_vec() }
}

fn lab(rule: Option<MergeRule>) -> Lab {
    Lab::new().change(|options| options.family.merge_operator = rule)
}

fn value(db: &Db, key: &str) -> String {
    String::from_utf8(db.get(key).expect("reads").expect("it is there").to_vec()).expect("text")
}

#[test]
fn operands_become_values_wherever_they_lie_and_every_snapshot_keeps_its_own() {
    let lab = lab(Some(append()));
    let db = lab.open();
    let mut snapshots = Vec::new();
    let mut expected = String::new();
    for number in 0..12 {
        db.merge("k", number.to_string()).expect("merged");
        expected = if expected.is_empty() { number.to_string() } else { format!("{expected},{number}") };
        snapshots.push((db.snapshot(), expected.clone()));
        match number {
            2 | 5 | 9 => db.flush().expect("flushed"),
            4 | 7 => db.compact_range::<&[u8]>(..).expect("compacted"),
            _ => {}
        }
        assert_eq!(value(&db, "k"), expected);
        assert_eq!(all(&db), Map::from([(b"k".to_vec(), expected.clone().into_bytes())]));
        assert_eq!(db.multi_get(&["k", "none"])[0].as_ref().expect("reads").as_deref(), Some(expected.as_bytes()));
    }
    for (snapshot, then) in &snapshots {
        let options = || ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
        let family = db.default_column_family();
        assert_eq!(family.get_with("k", &options()).expect("reads").as_deref(), Some(then.as_bytes()));
        let seen = collect(family.range_with::<&[u8]>(.., options()).expect("opens"));
        assert_eq!(seen, Map::from([(b"k".to_vec(), then.clone().into_bytes())]));
        let seen = collect(family.range_with::<&[u8]>(.., options()).expect("opens").rev());
        assert_eq!(seen, Map::from([(b"k".to_vec(), then.clone().into_bytes())]));
    }
    drop(snapshots);
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let operands = db.default_column_family().merge_operands("k", &ReadOptions::default()).expect("reads");
    assert_eq!(operands, [expected.into_bytes()], "one value is left");
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn a_deletion_and_a_deleted_range_end_what_operands_build_on() {
    let lab = lab(Some(append()));
    let db = lab.open();
    db.put("a", "base").expect("put");
    db.put("b", "base").expect("put");
    db.merge("a", "1").expect("merged");
    db.delete("a").expect("deleted");
    db.merge("a", "2").expect("merged");
    db.delete_range("b", "c").expect("deleted");
    db.merge("b", "3").expect("merged");
    for _ in 0..2 {
        assert_eq!((value(&db, "a"), value(&db, "b")), ("2".to_owned(), "3".to_owned()));
        db.flush().expect("flushed");
    }
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!((value(&db, "a"), value(&db, "b")), ("2".to_owned(), "3".to_owned()));
}

#[test]
fn operands_are_listed_without_being_merged() {
    let lab = lab(Some(append()));
    let db = lab.open();
    db.put("k", "base").expect("put");
    db.flush().expect("flushed");
    db.merge("k", "1").expect("merged");
    db.flush().expect("flushed");
    db.merge("k", "2").expect("merged");
    let list = |key: &str| db.default_column_family().merge_operands(key, &ReadOptions::default()).expect("reads");
    assert_eq!(list("k"), [&b"base"[..], b"1", b"2"]);
    assert!(list("none").is_empty());
    db.delete("k").expect("deleted");
    assert!(list("k").is_empty());
}

#[test]
fn a_built_in_operator_is_remembered_and_another_one_is_refused_by_name() {
    let lab = lab(Some(append()));
    let db = lab.open();
    db.merge("k", "1").expect("merged");
    db.close().expect("nothing is open");
    let mut forgetful = Lab::on(lab.fs.clone());
    let db = forgetful.open();
    db.merge("k", "2").expect("OPTIONS names the operator");
    assert_eq!(value(&db, "k"), "1,2");
    db.close().expect("nothing is open");
    forgetful.options.family.merge_operator = Some(MergeRule::Max);
    let error = forgetful.try_open().expect_err("another operator");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("StringAppendOperator") && error.to_string().contains("MaxOperator"), "{error}");
}

struct Own;

impl MergeOperator for Own {
    fn name(&self) -> &str {
        "test.own"
    }
    fn full_merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeFailure> {
        match operands.iter().any(|operand| operand == b"poison") {
            true => Err("an operand is poison".into()),
            false => Ok([base.unwrap_or_default(), &operands.concat()].concat()),
        }
    }
}

#[test]
fn without_its_operator_a_family_opens_and_serves_what_needs_none() {
    let own = lab(Some(MergeRule::custom(Own)));
    let db = own.open();
    db.put("plain", "value").expect("put");
    db.merge("k", "1").expect("merged");
    db.flush().expect("flushed");
    db.merge("k", "2").expect("merged");
    db.close().expect("nothing is open");
    let without = Lab::on(own.fs.clone());
    let db = without.open();
    assert_eq!(value(&db, "plain"), "value");
    for error in [
        db.get("k").expect_err("it needs the operator"),
        db.multi_get(&["k"]).remove(0).expect_err("it needs the operator"),
        db.iter().expect("opens").next().expect("an error").expect_err("it needs the operator"),
        db.iter().expect("opens").rev().nth(1).expect("an error").expect_err("it needs the operator"),
        db.merge("k", "3").expect_err("nobody knows what it would mean"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("test.own"), "{error}");
    }
    assert_eq!(db.default_column_family().merge_operands("k", &ReadOptions::default()).expect("reads").len(), 2);
    // Jobs leave operands as they are.
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    db.close().expect("nothing is open");
    let db = own.open();
    assert_eq!((value(&db, "k"), value(&db, "plain")), ("12".to_owned(), "value".to_owned()));
    db.close().expect("nothing is open");
    own.verify();
}

#[test]
fn an_operator_that_has_no_value_fails_the_readers_of_its_key_and_no_job() {
    let lab = lab(Some(MergeRule::custom(Own)));
    let db = lab.open();
    db.merge("a", "fine").expect("merged");
    db.merge("b", "poison").expect("merged");
    for step in 0..3 {
        assert_eq!(value(&db, "a"), "fine");
        let error = db.get("b").expect_err("no value");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{step}");
        assert!(error.to_string().contains("test.own") && error.to_string().contains("poison"), "{error}");
        match step {
            0 => db.flush().expect("flushed"),
            _ => db.compact_range::<&[u8]>(..).expect("compacted"),
        }
    }
    db.put("b", "cured").expect("put");
    assert_eq!(value(&db, "b"), "cured");
    assert!(db.health().cause.is_none(), "no job failed: {:?}", db.health());
}

#[test]
fn a_family_without_an_operator_takes_no_operands() {
    let lab = lab(None);
    let db = lab.open();
    let error = db.merge("k", "1").expect_err("no operator");
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("merge_operator"), "{error}");
    let mut batch = firndb::WriteBatch::new();
    batch.put("a", "1").merge("k", "1");
    assert!(db.write(&mut batch).is_err());
    assert!(all(&db).is_empty(), "nothing of the batch");
}

/// What one operator makes of a million operands takes no more entries than the snapshots need.
#[test]
fn operands_above_a_value_that_a_job_does_not_see_become_one() {
    let lab = lab(Some(append()));
    let db = lab.open();
    db.put("k", "base").expect("put");
    db.put("z", "other").expect("put");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    for number in 0..100 {
        db.merge("k", (number % 10).to_string()).expect("merged");
    }
    db.flush().expect("flushed");
    let operands = db.default_column_family().merge_operands("k", &ReadOptions::default()).expect("reads");
    assert_eq!(operands.len(), 2, "the value below, and one operand");
    assert_eq!(value(&db, "k").len(), "base".len() + 200);
}
