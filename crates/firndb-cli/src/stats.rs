//! `stats`: levels, amplification, cache, pins, stalls.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use firndb::{DbStats, Ticker};
use serde_json::{Value, json};

use crate::failure::{Failure, OK, Outcome};
use crate::read;
use crate::text::Form;

pub(crate) fn stats(dir: &Path, family: Option<&str>, form: Form) -> Outcome {
    let db = read::open(dir)?;
    let mut stats = db.stats();
    if let Some(name) = family {
        db.column_family(name)?;
        stats.families.retain(|family| family.name == name);
    }
    let text = if form.json {
        let tickers: serde_json::Map<String, Value> =
            Ticker::ALL.iter().map(|ticker| (ticker.name().to_owned(), db.ticker(*ticker).into())).collect();
        format!("{}\n", as_json(&stats, tickers))
    } else {
        plain(&stats)
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(OK)
}

fn as_json(stats: &DbStats, tickers: serde_json::Map<String, Value>) -> Value {
    let families: Vec<Value> = stats
        .families
        .iter()
        .map(|family| {
            let levels: Vec<Value> = family
                .levels
                .iter()
                .map(|level| {
                    json!({
                        "level": level.level, "files": level.files, "bytes": level.bytes,
                        "target_bytes": level.target_bytes, "score": level.score,
                    })
                })
                .collect();
            json!({
                "name": family.name,
                "levels": levels,
                "memtable_bytes": family.memtable_bytes,
                "memtable_entries": family.memtable_entries,
                "immutable_memtables": family.immutable_memtables,
                "pending_compaction_bytes": family.pending_compaction_bytes,
            })
        })
        .collect();
    let pins: Vec<Value> = stats
        .pins
        .iter()
        .map(|pin| {
            json!({
                "kind": pin.kind.to_string(),
                "site": format!("{}:{}", pin.site.file(), pin.site.line()),
                "label": pin.label,
                "age_seconds": pin.age.as_secs_f64(),
                "idle_seconds": pin.idle.as_secs_f64(),
                "sequence": pin.sequence.0,
                "exclusive_bytes": pin.exclusive_bytes,
                "shared_bytes": pin.shared_bytes,
                "exclusive_memtable_bytes": pin.exclusive_memtable_bytes,
                "shared_memtable_bytes": pin.shared_memtable_bytes,
            })
        })
        .collect();
    json!({
        "families": families,
        "read_amplification": stats.read_amplification(),
        "write_amplification": stats.write_amplification(),
        "space_amplification": stats.space_amplification(),
        "cache_bytes": stats.cache_bytes.0,
        "cache_capacity": stats.cache_bytes.1,
        "wal_bytes": stats.wal_bytes,
        "stall_reason": stats.stall_reason,
        "stalled_micros": stats.stalled_micros,
        "pins": pins,
        "obsolete_files": stats.obsolete_files,
        "latest_sequence": stats.latest_sequence.0,
        "tickers": tickers,
    })
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

fn plain(stats: &DbStats) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    for family in &stats.families {
        line(format!("column family {}", family.name));
        line("  level  files        bytes       target  score".to_owned());
        for level in &family.levels {
            line(format!(
                "  {:>5}  {:>5}  {:>11}  {:>11}  {:>5.2}",
                level.level,
                level.files,
                bytes(level.bytes),
                if level.target_bytes == 0 { "-".to_owned() } else { bytes(level.target_bytes) },
                level.score
            ));
        }
        line(format!(
            "  memtable: {} entries, {}; {} more wait for their flush",
            family.memtable_entries,
            bytes(family.memtable_bytes),
            family.immutable_memtables
        ));
        line(format!("  waiting for compaction: {}", bytes(family.pending_compaction_bytes)));
    }
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    line(format!(
        "amplification: read {} runs, write {}, space {}",
        stats.read_amplification(),
        ratio(stats.write_amplification()),
        ratio(stats.space_amplification())
    ));
    line(format!("block cache: {} of {}", bytes(stats.cache_bytes.0 as u64), bytes(stats.cache_bytes.1 as u64)));
    line(format!("write-ahead logs: {}", bytes(stats.wal_bytes)));
    line(format!(
        "stalls: {} (writers held up for {} us)",
        stats.stall_reason.as_deref().unwrap_or("none"),
        stats.stalled_micros
    ));
    line(format!("obsolete files waiting: {}", stats.obsolete_files));
    line(format!("pins: {}", stats.pins.len()));
    for pin in &stats.pins {
        line(format!("  {pin}"));
    }
    out
}
