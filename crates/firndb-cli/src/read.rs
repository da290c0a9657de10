//! The verbs that read: they take no lock and write nothing.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;

use firndb::{ColumnFamily, Db, Iter, Options, ReadOptions};
use serde_json::{Map, Value};

use crate::args::Scan;
use crate::failure::{ABSENT, Failure, OK, Outcome, say};
use crate::text::Form;

/// Opens for reading: no lock, nothing written.
pub(crate) fn open(dir: &Path) -> Result<Db, Failure> {
    let db = Db::open_read_only(dir, Options::default())?;
    for what in &db.recovery_report().not_read {
        say(&format!("warning: {what}"));
    }
    // A log that ends inside a record may just be in a writer's hand.
    for piece in db.recovery_report().dropped.iter().filter(|piece| !piece.is_cut_off) {
        let log = dir.join(format!("{}.log", piece.log));
        say(&format!(
            "warning: {}, offset {}: {}; what comes after is left out",
            log.display(),
            piece.offset,
            piece.reason
        ));
    }
    Ok(db)
}

fn open_family(dir: &Path, family: Option<&str>) -> Result<ColumnFamily, Failure> {
    Ok(open(dir)?.column_family(family.unwrap_or("default"))?)
}

pub(crate) fn get(dir: &Path, family: Option<&str>, form: Form, key: &OsStr, raw: bool) -> Outcome {
    let key = form.argument(key).map_err(Failure::Usage)?;
    let Some(value) = open_family(dir, family)?.get(&key)? else { return Ok(ABSENT) };
    let mut out = std::io::stdout().lock();
    if raw {
        out.write_all(&value).and_then(|()| out.flush()).map_err(Failure::stdout)?;
        return Ok(OK);
    }
    let mut line = String::new();
    entry_or_value(form, &key, &value, false, &mut line);
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(OK)
}

pub(crate) fn columns(dir: &Path, family: Option<&str>, form: Form, key: &OsStr) -> Outcome {
    let key = form.argument(key).map_err(Failure::Usage)?;
    let Some(columns) = open_family(dir, family)?.get_entity(&key)? else { return Ok(ABSENT) };
    let mut lines = String::new();
    for (name, value) in columns.iter() {
        if form.json {
            let mut object = Map::new();
            form.insert(&mut object, "name", name);
            form.insert(&mut object, "value", value);
            lines.push_str(&Value::Object(object).to_string());
        } else {
            form.push(name, &mut lines);
            lines.push('\t');
            form.push(value, &mut lines);
        }
        lines.push('\n');
    }
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(OK)
}

/// Appends one line: a key or a value alone.
fn alone(form: Form, name: &str, bytes: &[u8], line: &mut String) {
    if form.json {
        let mut object = Map::new();
        form.insert(&mut object, name, bytes);
        line.push_str(&Value::Object(object).to_string());
    } else {
        form.push(bytes, line);
    }
    line.push('\n');
}

/// Appends one line: an entry, or (plain text only) its value alone.
fn entry_or_value(form: Form, key: &[u8], value: &[u8], with_key: bool, line: &mut String) {
    if form.json {
        let mut object = Map::new();
        form.insert(&mut object, "key", key);
        form.insert(&mut object, "value", value);
        line.push_str(&Value::Object(object).to_string());
    } else {
        if with_key {
            form.push(key, line);
            line.push('\t');
        }
        form.push(value, line);
    }
    line.push('\n');
}

fn iter_of(scan: &Scan, family: &ColumnFamily, form: Form) -> Result<Iter, Failure> {
    let argument = |text: &Option<std::ffi::OsString>| {
        text.as_deref().map(|text| form.argument(text)).transpose().map_err(Failure::Usage)
    };
    let (from, to, prefix) = (argument(&scan.from)?, argument(&scan.to)?, argument(&scan.prefix)?);
    let lower = from.map_or(Bound::Unbounded, Bound::Included);
    let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
    let options = scan.read_options.as_deref().map_or(Ok(ReadOptions::default()), read_options)?;
    Ok(match prefix {
        None => family.range_with((lower, upper), options)?,
        Some(prefix) => family.prefix_range_with(&prefix, (lower, upper), options)?,
    })
}

/// Options as RocksDB writes them, `name=value;...`.
fn read_options(text: &str) -> Result<ReadOptions, Failure> {
    let mut options = ReadOptions::default();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let bad = || Failure::Usage(format!("--read-options: {pair:?} is no option that can be read with"));
        let (name, value) = pair.split_once('=').ok_or_else(bad)?;
        let is_on = || value.trim().parse::<bool>().map_err(|_| bad());
        match name.trim() {
            "fill_cache" => options.fill_cache = is_on()?,
            "verify_checksums" => options.verify_checksums = is_on()?,
            "total_order_seek" => options.total_order_seek = is_on()?,
            "readahead_size" => options.readahead_size = bytes(value.trim()).ok_or_else(bad)?,
            _ => return Err(bad()),
        }
    }
    Ok(options)
}

/// A number of bytes, with k, m or g for powers of 1024.
fn bytes(text: &str) -> Option<usize> {
    let units = [("k", 10), ("m", 20), ("g", 30)];
    let lower = text.to_ascii_lowercase();
    let unit = units.iter().find_map(|(unit, shift)| Some((lower.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((&lower, 0));
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

pub(crate) fn scan(scan: &Scan, family: Option<&str>, form: Form) -> Outcome {
    let family = open_family(&scan.db, family)?;
    let mut iter = iter_of(scan, &family, form)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut left = scan.limit.unwrap_or(u64::MAX);
    let mut line = String::new();
    while left > 0 {
        let Some(entry) = (if scan.reverse { iter.next_back() } else { iter.next() }) else { break };
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // What was read before the damage is still of use.
                out.flush().map_err(Failure::stdout)?;
                return Err(error.into());
            }
        };
        line.clear();
        match (scan.keys, scan.values) {
            (true, _) => alone(form, "key", &key, &mut line),
            (_, true) => alone(form, "value", &value, &mut line),
            _ => entry_or_value(form, &key, &value, true, &mut line),
        }
        out.write_all(line.as_bytes()).map_err(Failure::stdout)?;
        left -= 1;
    }
    out.flush().map_err(Failure::stdout)?;
    Ok(OK)
}

pub(crate) fn count(dir: &Path, family: Option<&str>, form: Form) -> Outcome {
    let mut cursor = open_family(dir, family)?.cursor(ReadOptions::default())?;
    let progress = crate::progress::counter("keys");
    let mut count = 0u64;
    cursor.seek_to_first()?;
    while cursor.valid() {
        count += 1;
        if count.is_multiple_of(1 << 16) {
            progress.set_position(count);
        }
        cursor.next()?;
    }
    progress.finish_and_clear();
    let line = if form.json { format!("{{\"count\":{count}}}\n") } else { format!("{count}\n") };
    std::io::stdout().lock().write_all(line.as_bytes()).map_err(Failure::stdout)?;
    Ok(OK)
}
