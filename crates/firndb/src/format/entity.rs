//! Entities: values that are made of named columns (RocksDB: wide columns).
//!
//! Flow: `WriteBatch::put_entity` -> [`encode`] -> an entry of kind `WideColumnEntity` -> [`default_column`] where a plain value is
//! asked for, [`Columns`] where the columns are.
//!
//! | bytes | content |
//! |---|---|
//! | varint32 | version, 1 |
//! | varint32 | number of columns |
//! | ... | per column: name, length-prefixed; varint32 size of its value |
//! | ... | the values, one after the other |
//!
//! Invariant: names ascend, bytewise, and are different. The column with the empty name is the default column: it is what a
//! plain value becomes, and what is left of an entity where a plain value is asked for.
//!
//! Source: RocksDB wiki "Wide Columns"; `db/wide/wide_column_serialization.cc`.

use std::fmt;
use std::ops::Range;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};

use super::coding::{Reader, put_length_prefixed, put_varint32};
use super::limits::{VALUE_BYTES_MAX, exceeded};

const VERSION: u32 = 1;
/// A name's length and a value's size take a byte each, at least.
const COLUMN_BYTES_MIN: usize = 2;

/// The columns of a key, by ascending name.
///
/// The column with the empty name is the *default column*: a plain value is an entity that has only this one, and `get` of an
/// entity returns it.
///
/// ```
/// # fn main() -> firndb::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let db = firndb::Db::open(dir.path())?;
/// db.put_entity("alice", [("city", "Oslo"), ("age", "31")])?;
/// let columns = db.get_entity("alice")?.expect("it is there");
/// assert_eq!(columns.get("city"), Some(&b"Oslo"[..]));
/// assert_eq!(columns.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&b"age"[..], b"city"]);
/// assert_eq!(db.get("alice")?.as_deref(), Some(&b""[..]), "there is no default column");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Columns {
    bytes: Vec<u8>,
    /// Where the names and the values are.
    places: Vec<Place>,
}

type Place = (Range<usize>, Range<usize>);

impl Columns {
    /// The columns of an entity in RocksDB's form, as a [`WriteOperation::PutEntity`](crate::WriteOperation::PutEntity) has it.
    ///
    /// # Errors
    /// `Corruption` if the bytes are none; `NotSupported` for a newer version of the form.
    pub fn parse(entity: &[u8]) -> Result<Columns> {
        places(entity).map(|places| Columns { bytes: entity.to_vec(), places })
    }

    /// What a plain value is: the default column alone.
    pub(crate) fn of_value(value: &[u8]) -> Columns {
        Columns { bytes: value.to_vec(), places: vec![(0..0, 0..value.len())] }
    }

    /// These columns, with another default column.
    pub(crate) fn with_default(&self, value: &[u8]) -> Result<Columns> {
        let others = self.iter().filter(|(name, _)| !name.is_empty());
        let entity = encode(std::iter::once((&[][..], value)).chain(others).collect())?;
        Columns::parse(&entity)
    }

    /// The value of the column `name`.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let at = self.places.binary_search_by(|(place, _)| self.bytes[place.clone()].cmp(name.as_ref())).ok()?;
        Some(&self.bytes[self.places[at].1.clone()])
    }

    /// Names and values, by ascending name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|(name, value)| (&self.bytes[name.clone()], &self.bytes[value.clone()]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (shown(name), shown(value)))).finish()
    }
}

/// An entity of these columns, in any order.
///
/// # Errors
/// `InvalidArgument` if two have the same name; `Limit` if they are too long together.
pub(crate) fn encode(mut columns: Vec<(&[u8], &[u8])>) -> Result<Vec<u8>> {
    columns.sort_unstable_by_key(|(name, _)| *name);
    if let Some(pair) = columns.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let what = format!("an entity with two columns named \"{}\"", pair[0].0.escape_ascii());
        return Err(Error::new(ErrorKind::InvalidArgument, what));
    }
    // As much as the numbers take at most: checked before any of them is cut.
    let bytes = columns.iter().fold(10usize, |sum, (name, value)| sum.saturating_add(10 + name.len() + value.len()));
    if bytes > VALUE_BYTES_MAX {
        return Err(exceeded("an entity", bytes, VALUE_BYTES_MAX));
    }
    let mut out = Vec::with_capacity(bytes);
    put_varint32(&mut out, VERSION);
    put_varint32(&mut out, columns.len() as u32);
    for (name, value) in &columns {
        put_length_prefixed(&mut out, name);
        put_varint32(&mut out, value.len() as u32);
    }
    columns.iter().for_each(|(_, value)| out.extend_from_slice(value));
    Ok(out)
}

/// The value of the default column of an entity, empty if there is none.
pub(crate) fn default_column(entity: &[u8]) -> Result<&[u8]> {
    let first = places(entity)?.into_iter().next();
    Ok(first.filter(|(name, _)| name.is_empty()).map_or(&[], |(_, value)| &entity[value]))
}

/// The entity with another value of its default column.
pub(crate) fn with_default_column(entity: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    Columns::parse(entity)?.with_default(value).map(|columns| columns.bytes)
}

fn places(entity: &[u8]) -> Result<Vec<Place>> {
    let mut reader = Reader::new(entity);
    match reader.varint32("version of an entity")? {
        VERSION => {}
        0 => return Err(malformed("an entity of version 0")),
        newer => {
            let what = format!("an entity of version {newer}: this version of FirnDB knows version {VERSION}");
            return Err(Error::new(ErrorKind::NotSupported, what));
        }
    }
    let count = reader.varint32("number of columns")? as usize;
    if count > reader.rest().len() / COLUMN_BYTES_MIN {
        return Err(malformed("an entity that claims more columns than it has room for"));
    }
    let mut columns: Vec<Place> = Vec::with_capacity(count);
    let mut value_end = 0usize;
    for _ in 0..count {
        let name = reader.length_prefixed("name of a column")?;
        let end = entity.len() - reader.rest().len();
        let place = end - name.len()..end;
        if columns.last().is_some_and(|(last, _)| entity[last.clone()] >= entity[place.clone()]) {
            return Err(malformed("an entity whose columns are out of order"));
        }
        let size = reader.varint32("size of a column's value")? as usize;
        columns.push((place, value_end..value_end.saturating_add(size)));
        value_end = value_end.saturating_add(size);
    }
    if value_end != reader.rest().len() {
        return Err(malformed("an entity whose values are not as long as it says"));
    }
    let start = entity.len() - reader.rest().len();
    for (_, value) in &mut columns {
        *value = start + value.start..start + value.end;
    }
    Ok(columns)
}

#[cold]
fn malformed(what: &str) -> Error {
    Error::corrupt(CorruptionKind::Malformed, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn columns_come_back_sorted_and_every_cut_and_flip_is_an_error_or_another_entity(
            columns in prop::collection::btree_map(prop::collection::vec(0u8..3, 0..4), prop::collection::vec(any::<u8>(), 0..9), 0..6),
            reverse in any::<bool>(),
            flip in (any::<prop::sample::Index>(), 1u8..=255),
        ) {
            let mut pairs: Vec<(&[u8], &[u8])> = columns.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            if reverse {
                pairs.reverse();
            }
            let entity = encode(pairs).expect("different names");
            let parsed = Columns::parse(&entity).expect("sound");
            prop_assert_eq!(parsed.len(), columns.len());
            prop_assert!(parsed.iter().eq(columns.iter().map(|(name, value)| (&name[..], &value[..]))));
            for (name, value) in &columns {
                prop_assert_eq!(parsed.get(name), Some(&value[..]));
            }
            prop_assert_eq!(parsed.get("not there"), None);
            let default = columns.get(&[][..]).map_or(&[][..], |value| &value[..]);
            prop_assert_eq!(default_column(&entity).expect("sound"), default);
            let changed = Columns::parse(&with_default_column(&entity, b"new").expect("sound")).expect("sound");
            prop_assert_eq!(changed.get(""), Some(&b"new"[..]));
            prop_assert_eq!(changed.len(), columns.len() + usize::from(!columns.contains_key(&[][..])));
            for len in 0..entity.len() {
                prop_assert!(Columns::parse(&entity[..len]).is_err());
            }
            let mut damaged = entity.clone();
            let at = flip.0.index(entity.len());
            damaged[at] ^= flip.1;
            // No panic; and what is read is in order.
            if let Ok(read) = Columns::parse(&damaged) {
                let names: Vec<_> = read.iter().map(|(name, _)| name).collect();
                prop_assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_rocksdb() {
        let entity = encode(vec![(b"name", b"v2"), (b"", b"v1")]).expect("sound");
        assert_eq!(entity, b"\x01\x02\x00\x02\x04name\x02v1v2");
        assert_eq!(encode(Vec::new()).expect("sound"), b"\x01\x00");
        assert_eq!(default_column(b"\x01\x00").expect("sound"), b"");
    }

    #[test]
    fn what_is_no_entity_is_refused() {
        let twice = encode(vec![(b"a", b"1"), (b"a", b"2")]).expect_err("twice");
        assert_eq!(twice.kind(), ErrorKind::InvalidArgument);
        let wrong: [&[u8]; 6] = [
            b"",
            b"\x00\x00",
            b"\x01\xff\xff\xff\xff\x0f",
            b"\x01\x02\x01b\x00\x01a\x00",
            b"\x01\x02\x01a\x00\x01a\x00",
            b"\x01\x01\x01a\x01",
        ];
        for bytes in wrong {
            assert!(Columns::parse(bytes).expect_err("none").corruption().is_some(), "{bytes:?}");
        }
        let newer = Columns::parse(b"\x02\x00").expect_err("newer");
        assert_eq!(newer.kind(), ErrorKind::NotSupported);
    }
}
