//! `verify`: every file against every promise of the format.

use std::io::Write;
use std::path::Path;

use firndb::{ErrorKind, Options, VerifyReport, verify_directory};

use crate::failure::{CORRUPT, Failure, INCOMPATIBLE, IO, OK, Outcome, say};
use crate::text::Form;

pub(crate) fn verify(dir: &Path, form: Form) -> Outcome {
    let progress = crate::progress::bytes("verifying", 0);
    let report = verify_directory(dir, &Options::default(), &mut |at| {
        progress.set_length(at.bytes_total);
        progress.set_position(at.bytes_done);
    })?;
    progress.finish_and_clear();
    let text = if form.json { json(&report) } else { plain(&report) };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    for unchecked in &report.unchecked {
        say(&format!("not checked: {unchecked}"));
    }
    for damage in &report.damages {
        say(damage);
    }
    // A file that the system does not let us read may well be whole.
    let is_damaged = report.damages.iter().any(|damage| damage.kind() == ErrorKind::Corruption);
    Ok(if report.damages.is_empty() {
        // Everything else is as it should be.
        if report.unchecked.is_empty() { OK } else { INCOMPATIBLE }
    } else if is_damaged {
        CORRUPT
    } else {
        IO
    })
}

fn json(report: &VerifyReport) -> String {
    let damages: Vec<_> = report
        .damages
        .iter()
        .map(|damage| {
            let found = damage.corruption();
            serde_json::json!({
                "message": damage.to_string(),
                "file": found.and_then(|found| found.file.as_ref()).map(|file| file.display().to_string()),
                "offset": found.and_then(|found| found.offset),
            })
        })
        .collect();
    let line = serde_json::json!({
        "ok": damages.is_empty(),
        "tables": report.tables,
        "entries": report.entries,
        "bytes": report.bytes,
        "log_records": report.log_records,
        "damages": damages,
        "unchecked": report.unchecked.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "notes": report.notes,
    });
    format!("{line}\n")
}

fn plain(report: &VerifyReport) -> String {
    let mut out = format!(
        "{} tables, {} entries, {} bytes, {} log records\n",
        report.tables, report.entries, report.bytes, report.log_records
    );
    for note in &report.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    match report.damages.len() {
        0 => out.push_str("no damage found\n"),
        1 => out.push_str("1 damage found\n"),
        count => out.push_str(&format!("{count} damages found\n")),
    }
    out
}
