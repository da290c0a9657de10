//! `load`: lines from stdin into atomic batches.

use std::io::{BufRead, ErrorKind, Write};
use std::path::Path;

use firndb::{ColumnFamilyId, MergeRule, WriteBatch, WriteOptions};

use crate::failure::{Failure, OK, Outcome};
use crate::text::Form;
use crate::write;

/// A longer line or batch is more than the engine takes, and refused before it fills the memory.
const BYTES_MAX: usize = 1 << 30;

pub(crate) fn load(
    dir: &Path,
    family: Option<&str>,
    form: Form,
    merge: Option<&str>,
    (batch_lines, sync, mut ack): (u64, bool, bool),
) -> Outcome {
    let rule = match merge {
        None => None,
        Some(name) => Some(MergeRule::built_in(name).ok_or_else(|| {
            Failure::Usage(format!(
                "{name:?} is none of the merge operators uint64add, stringappend, put, max, bytesxor"
            ))
        })?),
    };
    let is_merge = rule.is_some();
    let (db, family) = write::open_family_merged_by(dir, family, true, rule)?;
    let options = if sync { WriteOptions::synced() } else { WriteOptions::default() };
    let mut input = std::io::BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    let mut out = std::io::stdout().lock();
    let progress = crate::progress::counter("lines");
    let mut batch = WriteBatch::new();
    let mut line = Vec::new();
    let (mut number, mut in_batch) = (0u64, 0u64);
    let result = loop {
        line.clear();
        let read = match read_line(&mut input, &mut line) {
            Ok(read) => read,
            Err(error) => break Err(Failure::Io("stdin", error)),
        };
        if read {
            number += 1;
            if let Err(why) = add(form, &line, family.id(), is_merge, &mut batch) {
                break Err(Failure::Usage(format!("line {number}: {why}")));
            }
            if batch.as_bytes().len() > BYTES_MAX {
                break Err(Failure::Usage(format!("line {number}: its batch grows beyond 1 GiB; see --batch")));
            }
            in_batch += 1;
        }
        if in_batch == batch_lines || (!read && in_batch > 0) {
            if let Err(error) = db.write_with(&mut batch, &options) {
                break Err(error.into());
            }
            progress.set_position(number);
            batch.clear();
            in_batch = 0;
            if ack && let Err(error) = writeln!(out, "{number}").and_then(|()| out.flush()) {
                match error.kind() {
                    // Whoever read the numbers has seen enough of them; the lines are still to be loaded.
                    ErrorKind::BrokenPipe => ack = false,
                    _ => break Err(Failure::stdout(error)),
                }
            }
        }
        if !read {
            break Ok(OK);
        }
    };
    progress.finish_and_clear();
    let closed = db.close();
    let code = result?;
    closed?;
    Ok(code)
}

/// Reads a line without its newline; false at the end of the input. Of a line that is too long, only enough to tell.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let limit = BYTES_MAX as u64 + 2;
    let read = std::io::Read::take(&mut *input, limit).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

/// Adds one line to the batch.
fn add(form: Form, line: &[u8], family: ColumnFamilyId, is_merge: bool, batch: &mut WriteBatch) -> Result<(), String> {
    if line.is_empty() {
        return Err("an empty line".to_owned());
    }
    if line.len() > BYTES_MAX {
        return Err("it is longer than 1 GiB".to_owned());
    }
    if form.json {
        let value: serde_json::Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let serde_json::Value::Object(object) = value else { return Err("not a JSON object".to_owned()) };
        let key = form.take(&object, "key")?.flatten().ok_or("no key")?;
        match form.take(&object, "value")?.ok_or("no value (null deletes)")? {
            Some(value) if is_merge => batch.merge_cf(family, key, value),
            Some(value) => batch.put_cf(family, key, value),
            None => batch.delete_cf(family, key),
        };
        return Ok(());
    }
    match line.iter().position(|byte| *byte == b'\t') {
        Some(tab) if is_merge => batch.merge_cf(family, form.field(&line[..tab])?, form.field(&line[tab + 1..])?),
        Some(tab) => batch.put_cf(family, form.field(&line[..tab])?, form.field(&line[tab + 1..])?),
        None => batch.delete_cf(family, form.field(line)?),
    };
    Ok(())
}
