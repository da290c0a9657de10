//! Families of the other compaction styles, and of few levels: what a compaction by hand makes of them.

use firndb::{CompactionStyle, Db};

use crate::lab::{Lab, all, settle};

fn files(db: &Db) -> Vec<usize> {
    db.stats().families[0].levels.iter().map(|level| level.files).collect()
}

/// RocksDB opens no level 0 in which a table has older and newer entries than another one.
#[test]
fn a_family_that_is_not_leveled_is_merged_whole_whatever_range_was_asked_for() {
    for (style, levels, last) in [
        (CompactionStyle::Universal, 1, 0),
        (CompactionStyle::Universal, 4, 3),
        (CompactionStyle::None, 4, 3),
        (CompactionStyle::Fifo, 1, 0),
        (CompactionStyle::Fifo, 7, 0),
    ] {
        let lab = Lab::new().change(|options| {
            options.family.compaction_style = style;
            options.family.num_levels = levels;
        });
        let db = lab.open();
        for key in ["a", "m", "a"] {
            db.put(key, "v").expect("written");
            db.flush().expect("flushed");
        }
        let before = all(&db);
        db.compact_range("a".."b").expect("compacted");
        settle(&db);
        let files = files(&db);
        assert_eq!(files.iter().sum::<usize>(), 1, "{style:?} {levels}: {files:?}");
        assert_eq!(files[last], 1, "{style:?} {levels}: {files:?}");
        assert_eq!(all(&db), before);
        // Newer tables lie above it.
        db.put("a", "new").expect("written");
        db.flush().expect("flushed");
        assert_eq!(db.get("a").expect("read").as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn leveled_compaction_has_a_level_to_fill() {
    let lab = Lab::new().change(|options| {
        options.family.num_levels = 1;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_stop_writes_trigger = 4;
    });
    let db = lab.open();
    for key in ["a", "b", "c", "d", "e"] {
        db.put(key, "v").expect("written");
        db.flush().expect("flushed");
        settle(&db);
    }
    assert!(files(&db)[0] < 2, "{:?}", files(&db));
    assert_eq!(all(&db).len(), 5);
    db.close().expect("nothing is open");
    assert_eq!(all(&lab.open()).len(), 5);
}
