//! `firn`: reads, writes, inspects and verifies FirnDB and RocksDB directories.
//!
//! Results go to stdout, all else to stderr. Exit codes are in [`failure`]; the text form of keys and values in
//! [`text`].

mod args;
mod bench;
mod compat;
mod dump;
mod failure;
mod load;
mod progress;
mod read;
mod sst;
mod stats;
mod text;
mod tour;
mod verify;
mod write;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use args::{Arguments, Verb};
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // Nothing can be done about a closed terminal here.
            let _ = error.print();
            return ExitCode::from(failure::USAGE);
        }
        Err(help) => {
            return match help.print() {
                Ok(()) => ExitCode::from(failure::OK),
                Err(error) => Failure::stdout(error).report(),
            };
        }
    };
    if let Err(error) = outlive_file_size_limit() {
        return Failure::Io("the signal for files that are too large", error).report();
    }
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

/// A file that reaches the limit of `ulimit -f` is a failed write like one to a full disk, and not the end of the program.
fn outlive_file_size_limit() -> std::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

fn run(arguments: &Arguments) -> Outcome {
    let form = arguments.form();
    let family = arguments.cf.as_deref();
    if let (
        Some(_),
        Verb::Verify { .. }
        | Verb::Compat { .. }
        | Verb::Cf { .. }
        | Verb::Sst { .. }
        | Verb::Dump { .. }
        | Verb::Tour { .. }
        | Verb::Bench(_),
    ) = (family, &arguments.verb)
    {
        return Err(Failure::Usage("--cf means nothing to this verb".to_owned()));
    }
    match &arguments.verb {
        Verb::Put { db, key, value } => write::put(db, family, form, key, value),
        Verb::Get { db, key, columns: true, .. } => read::columns(db, family, form, key),
        Verb::Get { db, key, raw, .. } => read::get(db, family, form, key, *raw),
        Verb::Delete { db, key } => write::delete(db, family, form, key),
        Verb::DeleteRange { db, begin, end } => write::delete_range(db, family, form, begin, end),
        Verb::Scan(scan) => read::scan(scan, family, form),
        Verb::Count { db } => read::count(db, family, form),
        Verb::Load { db, batch, sync, ack, merge } => {
            load::load(db, family, form, merge.as_deref(), (*batch, *sync, *ack))
        }
        Verb::Flush { db } => write::flush(db, family),
        Verb::Compact { db, from, to, level, force } => {
            write::compact(db, family, form, (from.as_deref(), to.as_deref()), (*level, *force))
        }
        Verb::Verify { db } => verify::verify(db, form),
        Verb::Compat { db } => compat::compat(db, form),
        Verb::Stats { db } => stats::stats(db, family, form),
        Verb::Cf { verb } => write::column_family(verb, form),
        Verb::Sst { verb } => sst::sst(verb, form),
        Verb::Dump { what, file } => dump::dump(*what, file, form),
        Verb::Tour { dir } => tour::tour(dir.as_deref()),
        Verb::Bench(bench) => bench::bench(bench, form),
    }
}
