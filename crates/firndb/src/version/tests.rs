//! Real tables, for the tests of the table cache and of the level iterator.

use std::path::Path;

use super::table_cache::TableCache;
use super::*;
use crate::cache::BlockCache;
use crate::format::key::{ColumnFamilyId, SequenceNumber, internal_key};
use crate::fs::{CreateMode, Fs, MemoryFs};
use crate::table::builder::{TableBuildContext, TableBuilder, TableConfig};

/// Files 1, 2, … of one sorted level, with the keys 0, 1, … in their order.
pub(super) struct Tables {
    pub(super) fs: MemoryFs,
    pub(super) files: Vec<Arc<TableFile>>,
}

pub(super) fn key_of(index: u32) -> Vec<u8> {
    format!("k{:05}", index * 2).into_bytes()
}

pub(super) fn table_cache(tables: &Tables, open_files_max: Option<usize>) -> TableCache {
    let blocks = BlockCache::new(1 << 20);
    TableCache::new(Arc::new(tables.fs.clone()), tables.dir().into(), open_files_max, blocks, false, Arc::default())
}

impl Tables {
    pub(super) fn new(count: u32, keys_each: u32) -> Tables {
        let mut tables = Tables { fs: MemoryFs::new(), files: Vec::new() };
        tables.fs.create_dir_all(tables.dir()).expect("a directory");
        for index in 0..count {
            let number = FileNumber(u64::from(index) + 1);
            let path = tables.dir().join(crate::format::file_name::table(number));
            let file = tables.fs.create(&path, CreateMode::New).expect("a file");
            let context = TableBuildContext {
                order: KeyOrder::Bytewise,
                family_id: ColumnFamilyId::DEFAULT,
                family_name: "default".to_owned(),
                file_number: number,
                db_id: "db".to_owned(),
                session_id: "0123456789ABCDEFGHIJ".to_owned(),
                oldest_key_time: 1,
                creation_time: 1,
                is_all_logged: true,
            };
            let mut builder = TableBuilder::new(file, TableConfig::default(), context);
            for key in index * keys_each..(index + 1) * keys_each {
                let value = vec![key as u8; 10];
                builder.add(&internal_key(&key_of(key), SequenceNumber(1), 1), &value).expect("in order");
            }
            let built = builder.finish().expect("finished");
            tables.files.push(TableFile::new(FileMeta::of_table(number, &built)));
        }
        tables
    }

    pub(super) fn dir(&self) -> &'static Path {
        Path::new("/db")
    }

    pub(super) fn version(&self, level: usize) -> Version {
        let mut levels = Version::empty(KeyOrder::Bytewise, 7).levels;
        levels[level] =
            Arc::new(Level::new(level, &KeyOrder::Bytewise, self.files.clone()).expect("sorted and disjoint"));
        Version::of_levels(1, KeyOrder::Bytewise, levels)
    }
}
