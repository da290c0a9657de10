//! The orderings of the skiplist, explored by a model checker.

use super::*;

fn keys(memtable: &MemTable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut iter = memtable.iter();
    let mut all = Vec::new();
    iter.seek_to_first().expect("memory");
    while iter.valid() {
        all.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next().expect("memory");
    }
    all
}

#[test]
fn loom_two_inserts_and_a_reader_see_whole_nodes_in_order() {
    loom::model(|| {
        let memtable = MemTable::new(1, KeyOrder::Bytewise, 4096, FileNumber(1), 0);
        let writer = {
            let memtable = Arc::clone(&memtable);
            loom::thread::spawn(move || memtable.insert(SequenceNumber(2), ValueKind::Value, b"b", b"2").expect("new"))
        };
        let reader = {
            let memtable = Arc::clone(&memtable);
            loom::thread::spawn(move || {
                let seen = keys(&memtable);
                assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
                for (key, value) in seen {
                    assert_eq!(value, if key[0] == b'a' { b"1" } else { b"2" });
                }
            })
        };
        memtable.insert(SequenceNumber(1), ValueKind::Value, b"a", b"1").expect("new");
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(keys(&memtable).len(), 2);
    });
}
