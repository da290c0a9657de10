//! `compat`: which releases of RocksDB can open a directory as it is now.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use firndb::{Compatibility, Options, Release, Requirement, compatibility};
use serde_json::{Value, json};

use crate::failure::{Failure, OK, Outcome, say};
use crate::text::Form;

/// Releases that are answered for by name; the others follow from the first and the last that can.
const RELEASES: [Release; 6] = [
    Release { major: 6, minor: 29 },
    Release { major: 7, minor: 8 },
    Release { major: 8, minor: 11 },
    Release { major: 9, minor: 8 },
    Release { major: 10, minor: 10 },
    Release { major: 11, minor: 1 },
];

pub(crate) fn compat(dir: &Path, form: Form) -> Outcome {
    let found = compatibility(dir, &Options::default())?;
    for error in &found.not_judged {
        say(&format!("warning: not judged: {error}"));
    }
    let text = if form.json { format!("{}\n", as_json(&found)) } else { plain(&found) };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(OK)
}

fn as_json(found: &Compatibility) -> Value {
    let one = |requirement: &Requirement| {
        json!({
            "feature": requirement.feature,
            "file": requirement.file.display().to_string(),
            "since": requirement.since.to_string(),
            "until": requirement.until.map(|release| release.to_string()),
        })
    };
    let opens: serde_json::Map<String, Value> =
        RELEASES.into_iter().map(|release| (release.to_string(), found.opens(release).into())).collect();
    json!({
        "since": found.since().to_string(),
        "until": found.until().map(|release| release.to_string()),
        "opens": opens,
        "requirements": found.requirements.iter().map(one).collect::<Vec<_>>(),
        "conditions": found.conditions,
        "not_judged": found.not_judged.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A line a release, with the first file of each feature that it does not know; then what all of them need.
fn plain(found: &Compatibility) -> String {
    let before = found.until().map_or(String::new(), |until| format!(", before {until}"));
    let mut out = format!("RocksDB {} and newer{before}\n", found.since());
    for release in RELEASES {
        let mut features: BTreeMap<&str, (&Requirement, usize)> = BTreeMap::new();
        for obstacle in found.obstacles(release) {
            features.entry(obstacle.feature).or_insert((obstacle, 0)).1 += 1;
        }
        let why: Vec<String> = features
            .into_values()
            .map(|(first, count)| {
                let name = first.file.file_name().unwrap_or_default().to_string_lossy();
                let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                format!("{} ({name}{others})", first.feature)
            })
            .collect();
        match why.is_empty() {
            true => out.push_str(&format!("{release}\tyes\n")),
            false => out.push_str(&format!("{release}\tno: {}\n", why.join(", "))),
        }
    }
    for condition in &found.conditions {
        out.push_str(&format!("if {condition}\n"));
    }
    out
}
