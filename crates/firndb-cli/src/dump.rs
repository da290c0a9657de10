//! `dump`: what is in one file.

use std::io::Write;
use std::path::Path;

use firndb::inspect::{self, Field, Item};
use firndb::{Error, ErrorKind, PosixFs};
use serde_json::{Map, Value};

use crate::args::DumpKind;
use crate::failure::{Failure, OK, Outcome};
use crate::text::Form;

pub(crate) fn dump(what: DumpKind, file: &Path, form: Form) -> Outcome {
    let fs = PosixFs::new();
    print(form, u64::MAX, &mut |each| match what {
        DumpKind::Manifest => inspect::manifest(&fs, file, each),
        DumpKind::Wal => inspect::wal(&fs, file, each),
        DumpKind::Sst => inspect::sst(&fs, file, each),
        DumpKind::Options => inspect::options(&fs, file, each),
    })
}

/// Takes an item.
pub(crate) type Each<'a> = &'a mut dyn FnMut(Item) -> firndb::Result<()>;

/// Prints a line for each item, and no more than `limit`.
pub(crate) fn print(form: Form, limit: u64, walk: &mut dyn FnMut(Each<'_>) -> firndb::Result<()>) -> Outcome {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let (mut failed, mut left) = (None, limit);
    let mut each = |item: Item| {
        if left == 0 {
            return Err(Error::new(ErrorKind::Cancelled, "there are enough"));
        }
        left -= 1;
        let line = if form.json { json(&item, form) } else { plain(&item, form) };
        out.write_all(line.as_bytes()).map_err(|error| {
            failed = Some(error);
            // Ends the walk; the real reason is kept beside it.
            Error::new(ErrorKind::Cancelled, "stdout")
        })
    };
    let result = walk(&mut each);
    if let Some(error) = failed {
        return Err(Failure::stdout(error));
    }
    out.flush().map_err(Failure::stdout)?;
    match result {
        Err(error) if error.kind() != ErrorKind::Cancelled => Err(error.into()),
        _ => Ok(OK),
    }
}

fn json(item: &Item, form: Form) -> String {
    let mut object = Map::new();
    object.insert("type".to_owned(), item.title.into());
    for (name, value) in &item.fields {
        match value {
            Field::Number(number) => {
                object.insert(name.clone(), (*number).into());
            }
            Field::Text(text) => {
                object.insert(name.clone(), text.clone().into());
            }
            Field::Bytes(bytes) => form.insert(&mut object, name, bytes),
            _ => {}
        }
    }
    format!("{}\n", Value::Object(object))
}

fn plain(item: &Item, form: Form) -> String {
    let mut out = String::from(item.title);
    for (name, value) in &item.fields {
        out.push('\t');
        out.push_str(name);
        out.push('=');
        match value {
            Field::Number(number) => out.push_str(&number.to_string()),
            Field::Text(text) => crate::text::escape_into(text.as_bytes(), &mut out),
            Field::Bytes(bytes) => form.push(bytes, &mut out),
            _ => {}
        }
    }
    out.push('\n');
    out
}
