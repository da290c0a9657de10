//! Changes of a family's options while the database is open, by RocksDB's names or field by field.
//!
//! Flow: `set_options` with names and texts, or `change_options` with a closure -> **here**: a copy of the options with the
//! changes, checked as a whole -> `db::options`, which writes OPTIONS and hands the new options to the family's owners.
//!
//! Invariant: all changes are taken or none is; what cannot change while files are open is refused by its name.

use crate::error::{Error, ErrorKind, Result};

use super::FamilyOptions;
use super::keys::{FAMILY, FamilyKey, Place, Unfit, elsewhere, family_key, unknown_inner, values_of};

/// RocksDB's name for all options of a family's tables together: `{block_size=8192;filter_policy=bloomfilter:10:false;}`.
const TABLE_OPTIONS: &str = "block_based_table_factory";

fn refuse(kind: ErrorKind, what: String) -> Error {
    Error::new(kind, what)
}

fn cannot_change(name: &str) -> Error {
    let what = format!("{name} cannot change while the database is open");
    refuse(ErrorKind::InvalidArgument, what)
}

impl FamilyOptions {
    /// These options with some changed, by RocksDB's names.
    ///
    /// # Errors
    /// `InvalidArgument` names an option that there is not, that cannot change, or that does not have such values;
    /// `NotSupported` what RocksDB can write and this engine cannot.
    pub(crate) fn with(&self, changes: &[(&str, &str)]) -> Result<FamilyOptions> {
        let mut options = self.clone();
        for (name, value) in changes {
            match *name {
                TABLE_OPTIONS => {
                    let inner = value.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                    let bad = || refuse(ErrorKind::InvalidArgument, format!("{TABLE_OPTIONS}={value}: is not {{…}}"));
                    for part in inner.ok_or_else(bad)?.split(';').map(str::trim).filter(|part| !part.is_empty()) {
                        let (name, value) = part.split_once('=').ok_or_else(bad)?;
                        options.set(name.trim(), value.trim(), Some(Place::Table))?;
                    }
                }
                name => options.set(name, value.trim(), None)?,
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str, place: Option<Place>) -> Result<()> {
        let known = family_key(name).filter(|key| place.is_none_or(|place| key.place == place));
        let Some(key) = known else {
            return match name {
                "comparator" => Err(cannot_change(name)),
                "key_order" => Err(cannot_change("comparator")),
                _ => {
                    let why = elsewhere(name).unwrap_or("or this version does not have it");
                    let what = format!("there is no option {name:?} of a column family; {why}");
                    Err(refuse(ErrorKind::InvalidArgument, what))
                }
            };
        };
        if !key.is_mutable {
            return Err(cannot_change(name));
        }
        (key.take)(self, value).map_err(|unfit| match unfit {
            Unfit::Nonsense => {
                let what = format!("{name} cannot be {value:?}, but {}", values_of(name));
                refuse(ErrorKind::InvalidArgument, what)
            }
            Unfit::NotSupported(why) => refuse(ErrorKind::NotSupported, format!("{name}={value}: {why}")),
        })?;
        self.check_is_meant(key, value)
    }

    /// A file may ask for what only RocksDB can write; who asks now is told.
    fn check_is_meant(&self, key: &FamilyKey, value: &str) -> Result<()> {
        if let Some(inner) = unknown_inner(key.name, value) {
            let what = format!("there is no option {inner:?} in {}, or this version does not have it", key.name);
            return Err(refuse(ErrorKind::InvalidArgument, what));
        }
        let is_meant = match key.name {
            "compression" | "compression_per_level" | "bottommost_compression" | "blob_compression_type" => {
                (key.show)(self) == value
            }
            "filter_policy" => {
                let known = ["bloomfilter:", "ribbonfilter:"];
                ["", "nullptr"].contains(&value) || known.iter().any(|name| value.starts_with(name))
            }
            "index_type" => (key.show)(self) == value,
            "prefix_extractor" => ["", "nullptr"].contains(&value) || self.prefix_extractor.is_some(),
            _ => true,
        };
        if is_meant {
            Ok(())
        } else {
            let what = format!("{}={value}: this build cannot write that, but {}", key.name, values_of(key.name));
            Err(refuse(ErrorKind::NotSupported, what))
        }
    }

    /// What is different from `before`, by RocksDB's names.
    ///
    /// # Errors
    /// `InvalidArgument` names an option that makes no sense now, or that cannot change.
    pub(crate) fn changes_since(&self, before: &FamilyOptions, family: &str) -> Result<Vec<(&'static str, String)>> {
        if self.key_order.name() != before.key_order.name() {
            return Err(cannot_change("key_order"));
        }
        let options = self.clone().checked(family)?;
        let changed = FAMILY.iter().map(|key| (key.name, (key.show)(&options), (key.show)(before)));
        Ok(changed.filter(|(_, now, then)| now != then).map(|(name, now, _)| (name, now)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_by_rocksdbs_names_and_what_cannot_is_named() {
        let options = FamilyOptions::default();
        let changed = options
            .with(&[
                ("write_buffer_size", "8m"),
                ("disable_auto_compactions", "true"),
                ("block_based_table_factory", "{block_size=8192; filter_policy=bloomfilter:12:false;}"),
            ])
            .expect("all can change");
        assert_eq!((changed.write_buffer_size, changed.disable_auto_compactions), (8 << 20, true));
        assert_eq!((changed.block_size, changed.bloom_bits_per_key), (8192, Some(12.0)));
        let changes = changed.changes_since(&options, "default").expect("sound");
        let names: Vec<_> = changes.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["write_buffer_size", "disable_auto_compactions", "block_size", "filter_policy"]);
        for (name, value, kind, said) in [
            ("write_bufer_size", "1", ErrorKind::InvalidArgument, "write_bufer_size"),
            ("num_levels", "3", ErrorKind::InvalidArgument, "num_levels cannot change"),
            ("comparator", "x", ErrorKind::InvalidArgument, "comparator cannot change"),
            ("write_buffer_size", "lots", ErrorKind::InvalidArgument, "lots"),
            ("compression", "kXpressCompression", ErrorKind::NotSupported, "kXpressCompression"),
            ("filter_policy", "xorfilter:9", ErrorKind::NotSupported, "xorfilter"),
            ("index_type", "kHashSearch", ErrorKind::NotSupported, "kHashSearch"),
            ("prefix_extractor", "my.Prefixes", ErrorKind::NotSupported, "my.Prefixes"),
            // Who does not know RocksDB's words is told which they are.
            ("bloom_bits_per_key", "10", ErrorKind::InvalidArgument, "filter_policy=bloomfilter:10:false"),
            ("filter_policy", "bloom", ErrorKind::NotSupported, "bloomfilter:<bits a key>:false"),
            ("filter_policy", "bloomfilter:x", ErrorKind::InvalidArgument, "bloomfilter:<bits a key>:false"),
            ("compression", "none", ErrorKind::InvalidArgument, "kNoCompression"),
            ("bottommost_compression", "none", ErrorKind::InvalidArgument, "kDisableCompressionOption"),
            ("disable_auto_compactions", "yes", ErrorKind::InvalidArgument, "true or false"),
            ("max_open_files", "100", ErrorKind::InvalidArgument, "whole database"),
            ("cache_index_and_filter_blocks", "true", ErrorKind::InvalidArgument, "said at open"),
            ("block_based_table_factory", "{write_buffer_size=1m}", ErrorKind::InvalidArgument, "write_buffer_size"),
        ] {
            let error = options.with(&[(name, value)]).expect_err(name);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let nothing = FamilyOptions { block_size: 0, ..options.clone() };
        let error = nothing.changes_since(&options, "default").expect_err("no block");
        assert!(error.to_string().contains("block_size"), "{error}");
    }
}
