//! The verbs that write one thing: `put`, `delete`, `delete-range`, `flush`, `compact`, `cf`.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;

use firndb::{BottommostLevelCompaction, ColumnFamily, CompactRangeOptions, Db, FamilyDescriptor, MergeRule, Options};

use crate::args::FamilyVerb;
use crate::failure::{Failure, OK, Outcome, say};
use crate::text::Form;

/// Opens for writing. Closing leaves memtables to the write-ahead log.
pub(crate) fn open(dir: &Path, create: bool) -> Result<Db, Failure> {
    open_with(dir, create, Options::default())
}

fn open_with(dir: &Path, create: bool, mut options: Options) -> Result<Db, Failure> {
    options.create_if_missing = create;
    options.avoid_flush_during_shutdown = true;
    let db = Db::open_with(dir, options)?;
    for piece in &db.recovery_report().dropped {
        let log = dir.join(format!("{}.log", piece.log));
        say(&format!("warning: {}, offset {}: {}; what came after is lost", log.display(), piece.offset, piece.reason));
    }
    for table in &db.recovery_report().set_aside {
        say(&format!("warning: {}, a table in no version, was moved there: {}", table.path.display(), table.reason));
    }
    Ok(db)
}

/// Opens for writing into a family; a missing database is made only if that can succeed.
pub(crate) fn open_family(dir: &Path, family: Option<&str>, create: bool) -> Result<(Db, ColumnFamily), Failure> {
    open_family_merged_by(dir, family, create, None)
}

/// The same; the family has this merge operator, if it has none yet.
pub(crate) fn open_family_merged_by(
    dir: &Path,
    family: Option<&str>,
    create: bool,
    rule: Option<MergeRule>,
) -> Result<(Db, ColumnFamily), Failure> {
    let name = family.unwrap_or("default");
    let described =
        rule.map(|rule| FamilyDescriptor::new(name).change(move |options| options.merge_operator = Some(rule.clone())));
    let options = Options { families: described.into_iter().collect(), ..Options::default() };
    let db = open_with(dir, create && name == "default", options).map_err(|failure| match &failure {
        Failure::Engine(error) if create && error.kind() == firndb::ErrorKind::NoSuchDatabase => {
            Failure::Usage(format!("there is no column family {name:?}: {} has no database yet", dir.display()))
        }
        _ => failure,
    })?;
    let family = db.column_family(name)?;
    Ok((db, family))
}

pub(crate) fn put(dir: &Path, family: Option<&str>, form: Form, key: &OsStr, value: &OsStr) -> Outcome {
    let key = form.argument(key).map_err(Failure::Usage)?;
    let value = form.argument(value).map_err(Failure::Usage)?;
    let (db, family) = open_family(dir, family, true)?;
    family.put(&key, &value)?;
    db.close()?;
    Ok(OK)
}

pub(crate) fn delete(dir: &Path, family: Option<&str>, form: Form, key: &OsStr) -> Outcome {
    let key = form.argument(key).map_err(Failure::Usage)?;
    let (db, family) = open_family(dir, family, false)?;
    family.delete(&key)?;
    db.close()?;
    Ok(OK)
}

pub(crate) fn delete_range(dir: &Path, family: Option<&str>, form: Form, begin: &OsStr, end: &OsStr) -> Outcome {
    let begin = form.argument(begin).map_err(Failure::Usage)?;
    let end = form.argument(end).map_err(Failure::Usage)?;
    let (db, family) = open_family(dir, family, false)?;
    family.delete_range(&begin, &end)?;
    db.close()?;
    Ok(OK)
}

/// The named family, or all of them.
fn families(db: &Db, family: Option<&str>) -> Result<Vec<ColumnFamily>, Failure> {
    Ok(match family {
        Some(name) => vec![db.column_family(name)?],
        None => db.column_families(),
    })
}

pub(crate) fn flush(dir: &Path, family: Option<&str>) -> Outcome {
    let db = open(dir, false)?;
    for family in families(&db, family)? {
        family.flush()?;
    }
    db.close()?;
    Ok(OK)
}

pub(crate) fn compact(
    dir: &Path,
    family: Option<&str>,
    form: Form,
    (from, to): (Option<&OsStr>, Option<&OsStr>),
    (level, force): (Option<u32>, bool),
) -> Outcome {
    let mut options = CompactRangeOptions::new();
    if let Some(level) = level {
        options = options.change_level(true).target_level(level);
    }
    if force {
        options = options.bottommost_level_compaction(BottommostLevelCompaction::Force);
    }
    let argument = |text: Option<&OsStr>| text.map(|text| form.argument(text)).transpose().map_err(Failure::Usage);
    let lower = argument(from)?.map_or(Bound::Unbounded, Bound::Included);
    let upper = argument(to)?.map_or(Bound::Unbounded, Bound::Excluded);
    let db = open(dir, false)?;
    let progress = crate::progress::spinner("compacting");
    for family in families(&db, family)? {
        progress.set_message(format!("compacting {}", family.name()));
        family.compact_range_with((lower.clone(), upper.clone()), &options)?;
    }
    progress.finish_and_clear();
    db.close()?;
    Ok(OK)
}

pub(crate) fn column_family(verb: &FamilyVerb, form: Form) -> Outcome {
    match verb {
        FamilyVerb::List { db } => {
            let mut out = String::new();
            for (id, name) in firndb::column_families_in(db, &Options::default())? {
                match form.json {
                    true => {
                        let line = serde_json::json!({ "id": id.0, "name": name });
                        out.push_str(&line.to_string());
                    }
                    false => crate::text::escape_into(name.as_bytes(), &mut out),
                }
                out.push('\n');
            }
            std::io::stdout().lock().write_all(out.as_bytes()).map_err(Failure::stdout)?;
        }
        FamilyVerb::Create { name, .. } if name.is_empty() => {
            return Err(Failure::Usage("a column family needs a name".to_owned()));
        }
        FamilyVerb::Create { db, name } => {
            let db = open(db, true)?;
            db.create_column_family(name)?;
            db.close()?;
        }
        FamilyVerb::Drop { db, name } => {
            let db = open(db, false)?;
            db.drop_column_family(name)?;
            db.close()?;
        }
    }
    Ok(OK)
}
