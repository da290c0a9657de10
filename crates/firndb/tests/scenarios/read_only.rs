//! Opening for reading beside a writer that goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firndb::{Db, FsOp, WriteBatch};

use super::lab::{DIR, HookFs, Lab};

/// MANIFEST is read after the logs were listed. In between the writer begins a log, writes a batch over two families to
/// it, and flushes one of them: MANIFEST then knows one half of the batch, and the other is in a log that was not listed.
#[test]
fn a_reader_that_opens_while_a_writer_flushes_sees_whole_batches() {
    let lab = Lab::new();
    let db = lab.open();
    let (one, two) = (db.create_column_family("one").expect("made"), db.create_column_family("two").expect("made"));
    let write = move |db: &Db, value: &str| {
        let mut batch = WriteBatch::new();
        batch.put_cf(&one, "key", value).put_cf(&two, "key", value);
        db.write(&mut batch).expect("written");
    };
    write(&db, "before");

    let hook = HookFs::new(lab.fs.clone());
    let mut options = lab.options.clone();
    options.fs = Arc::new(hook.clone());
    let (writer, is_done) = (db.clone(), AtomicBool::new(false));
    hook.set(move |op, path| {
        let is_manifest = path.to_string_lossy().contains("MANIFEST-");
        if op != FsOp::Open || !is_manifest || is_done.swap(true, Ordering::SeqCst) {
            return;
        }
        writer.flush().expect("flushed");
        writer.column_family("one").expect("there").flush().expect("flushed");
        write(&writer, "meanwhile");
        writer.column_family("one").expect("there").flush().expect("flushed");
    });
    let reader = Db::open_read_only(DIR, options).expect("opens");
    hook.clear();

    let value = |name: &str| {
        let family = reader.column_family(name).expect("there");
        family.get("key").expect("readable").expect("written").to_vec()
    };
    assert_eq!(value("one").escape_ascii().to_string(), value("two").escape_ascii().to_string());
    reader.close().expect("closes");
    db.close().expect("closes");
}
