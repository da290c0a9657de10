//! `sst`: one table file, whether it belongs to a database or not.

use std::io::Write;
use std::path::Path;

use firndb::{PosixFs, inspect};
use serde_json::json;

use crate::args::TableVerb;
use crate::dump::print;
use crate::failure::{Failure, OK, Outcome};
use crate::text::Form;

pub(crate) fn sst(verb: &TableVerb, form: Form) -> Outcome {
    let fs = PosixFs::new();
    match verb {
        TableVerb::Properties { file } => print(form, u64::MAX, &mut |each| inspect::sst_properties(&fs, file, each)),
        TableVerb::Scan { file, from, to, limit } => {
            let argument = |text: &Option<std::ffi::OsString>| {
                text.as_deref().map(|text| form.argument(text)).transpose().map_err(Failure::Usage)
            };
            let (from, to) = (argument(from)?, argument(to)?);
            print(form, limit.unwrap_or(u64::MAX), &mut |each| {
                inspect::sst_range(&fs, file, from.as_deref(), to.as_deref(), each)
            })
        }
        TableVerb::Recompress { file } => recompress(&fs, file, form),
    }
}

/// A line a codec, with the size that the file would have.
fn recompress(fs: &PosixFs, file: &Path, form: Form) -> Outcome {
    let mut text = String::new();
    for one in inspect::recompressed(fs, file)? {
        let codec = format!("{:?}", one.codec);
        match form.json {
            true => {
                let line = json!({
                    "codec": codec, "data_bytes": one.data_bytes,
                    "compressed_blocks": one.compressed_blocks, "blocks": one.blocks,
                });
                text.push_str(&format!("{line}\n"));
            }
            false => text.push_str(&format!(
                "{codec}\t{} bytes of data blocks\t{} of {} blocks compressed\n",
                one.data_bytes, one.compressed_blocks, one.blocks
            )),
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(OK)
}
