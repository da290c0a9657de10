//! Pictures of levels and edits, and what comes of them, in `version/testdata`.
//!
//! A line `L1: 5[a-f] 6[g-k]` puts files into a level of the family that the last `family NAME` line made, or of the default
//! one. Marks behind commas: `e7` of epoch 7, `s3` all entries have number 3 (else the file's number), `s5..3` number 5 to 3,
//! `k` a bound that is no internal key.
//!
//! `edit -5@L0 +6[a-f]@L1 log=9` is one change that a job makes: it goes through [`VersionSet::log_and_apply`]; ` | ` parts the
//! edits of one change, `cf=1` names a family. `record` has the same words, but is a record that some writer left in
//! MANIFEST. The answer shows the levels after the last line, or why a change was refused, and that left everything as it was.
//! Whatever is shown is also what MANIFEST adds up to, and a new MANIFEST after it.
//!
//! A last line may ask for more: `numbers`, or `readers`: whose tables stay open and which levels are shared.

use firndb_testkit::text;

use super::*;
use crate::version::TableFile;
use crate::wal::writer::LogWriter;

/// Numbers below this one were handed out.
const HANDED_OUT: u64 = 100;

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// `5[a-f],e7`
fn file(word: &str) -> FileMeta {
    let (name, rest) = word.split_once('[').expect("number[begin-end]");
    let (range, rest) = rest.split_once(']').expect("number[begin-end]");
    let (begin, end) = range.split_once('-').expect("begin-end");
    let sequence = SequenceNumber(number(name));
    let mut meta = FileMeta { number: FileNumber(number(name)), size: 10, ..FileMeta::default() };
    (meta.smallest_seq, meta.largest_seq) = (sequence, sequence);
    let mut kind = 1;
    for mark in rest.split(',').skip(1) {
        match mark.split_at(1) {
            ("e", epoch) => meta.epoch = number(epoch),
            ("s", range) => {
                let (from, to) = range.split_once("..").unwrap_or((range, range));
                (meta.smallest_seq, meta.largest_seq) = (SequenceNumber(number(from)), SequenceNumber(number(to)));
            }
            ("k", _) => kind = 0xEE,
            other => panic!("no such mark: {other:?}"),
        }
    }
    // An edit may say more than a key holds.
    let in_key = meta.largest_seq.min(SequenceNumber::MAX);
    meta.smallest = internal_key(begin.as_bytes(), in_key, kind);
    meta.largest = internal_key(end.as_bytes(), in_key, 1);
    meta
}

fn at_level(word: &str) -> (&str, u32) {
    let (what, level) = word.split_once("@L").expect("what@Llevel");
    (what, number(level))
}

fn edit(words: &str) -> VersionEdit {
    let mut edit = VersionEdit::default();
    for word in words.split_whitespace() {
        if let Some(added) = word.strip_prefix('+') {
            let (added, level) = at_level(added);
            edit.new_files.push((level, file(added)));
            continue;
        }
        if let Some(deleted) = word.strip_prefix('-') {
            let (deleted, level) = at_level(deleted);
            edit.deleted_files.push((level, FileNumber(number(deleted))));
            continue;
        }
        match word.split_once('=').unwrap_or((word, "")) {
            ("cf", id) => edit.family = ColumnFamilyId(number(id)),
            ("add", name) => edit.added_family = Some(name.into()),
            ("drop", _) => edit.is_family_drop = true,
            ("order", name) => edit.comparator = Some(name.into()),
            ("log", log) => edit.log_number = Some(FileNumber(number(log))),
            ("keep", log) => edit.min_log_to_keep = Some(FileNumber(number(log))),
            ("next", next) => edit.next_file = Some(FileNumber(number(next))),
            ("last", sequence) => edit.last_sequence = Some(SequenceNumber(number(sequence))),
            ("families", id) => edit.max_family = Some(number(id)),
            ("group", to_come) => edit.atomic_group = Some(number(to_come)),
            ("cursor", cursor) => {
                let (key, level) = at_level(cursor);
                edit.compact_cursors.push((level, internal_key(key.as_bytes(), SequenceNumber(1), 1)));
            }
            other => panic!("no such word: {other:?}"),
        }
    }
    edit
}

fn show_file(file: &TableFile) -> String {
    let meta = &file.meta;
    let key = |key: &[u8]| String::from_utf8_lossy(crate::format::key::user_key(key)).into_owned();
    format!("{}[{}-{}],e{}", meta.number.0, key(&meta.smallest), key(&meta.largest), meta.epoch)
}

/// Families, levels, cursors.
fn show(set: &VersionSet) -> String {
    let mut lines = Vec::new();
    for family in set.families() {
        if family.id != DEFAULT {
            lines.push(format!("family {} ({})", family.name, family.id.0));
        }
        for level in family.version.levels.iter().filter(|level| level.len() > 0) {
            let files: Vec<_> = level.files().iter().map(|file| show_file(file)).collect();
            lines.push(format!("L{}: {}", level.number(), files.join(" ")));
        }
        for (level, key) in &family.compact_cursors {
            let key = String::from_utf8_lossy(crate::format::key::user_key(key));
            lines.push(format!("cursor L{level} {key}"));
        }
    }
    match lines.is_empty() {
        true => "no files".to_owned(),
        false => lines.join("\n"),
    }
}

fn show_numbers(set: &VersionSet) -> String {
    let state = set.state.lock();
    let logs = state.families.values().map(|family| format!("{} log {}", family.name, family.log_number.0));
    let logs = logs.collect::<Vec<_>>().join(", ");
    format!(
        "{logs}; logs kept from {}; last sequence {}; families up to {}",
        state.min_log_to_keep, state.last_sequence.0, state.max_family.0
    )
}

/// What `after` has of `before`: files by their readers, levels by their lists.
fn show_readers(before: &Version, after: &Version) -> String {
    let of = |version: &Version, number| version.file(number).map(|(_, file)| Arc::clone(file));
    let mut lines = Vec::new();
    for (_, file) in after.files() {
        let Some(old) = of(before, file.number()) else { continue };
        if !Arc::ptr_eq(&old, file) {
            lines.push(format!("{} is opened anew", file.number().0));
        }
    }
    let shared = after.levels.iter().zip(&before.levels).filter(|(a, b)| a.len() > 0 && Arc::ptr_eq(a, b));
    let shared: Vec<_> = shared.map(|(level, _)| format!("L{}", level.number())).collect();
    let shared = if shared.is_empty() { "none".to_owned() } else { shared.join(" ") };
    lines.push(format!("levels shared with the version before: {shared}"));
    lines.join("\n")
}

/// What MANIFEST adds up to is what is shown, and so is the next MANIFEST.
fn check_durable(fs: &MemoryFs, set: &VersionSet) {
    let expected = (show(set), show_numbers(set));
    let after = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
    let first = recover(&after).expect("our own MANIFEST");
    assert_eq!((show(&first), show_numbers(&first)), expected, "recovered");
    first.switch_manifest().expect("a new MANIFEST");
    let second = recover(&after).expect("our own MANIFEST");
    assert_eq!((show(&second), show_numbers(&second)), expected, "recovered from a new MANIFEST");
}

fn edited(question: &str) -> String {
    let fs = new_fs();
    let set = create(&fs);
    set.mark_file_number_used(FileNumber(HANDED_OUT - 1));
    let mut family = DEFAULT;
    let mut answer = Vec::new();
    let mut before = set.current(DEFAULT).expect("the default family");
    for line in question.lines() {
        let (verb, words) = line.split_once(' ').unwrap_or((line, ""));
        let was = (show(&set), show_numbers(&set));
        let changed = match verb {
            "family" => {
                family = set.create_family(words, KeyOrder::Bytewise, FileNumber(1), |_| {}).expect("a family").id;
                continue;
            }
            "numbers" => {
                answer.push(show_numbers(&set));
                continue;
            }
            "readers" => {
                answer.push(show_readers(&before, &set.current(DEFAULT).expect("the default family")));
                continue;
            }
            "drop" => set.drop_family(ColumnFamilyId(number(words)), FileNumber(1), || {}).map(drop),
            "edit" => {
                before = set.current(DEFAULT).expect("the default family");
                set.log_and_apply(words.split(" | ").map(edit).collect(), |_| {}).map_err(Error::from)
            }
            level => {
                let level = number(level.strip_prefix('L').and_then(|level| level.strip_suffix(':')).expect("Llevel:"));
                let new_files = words.split_whitespace().map(|word| (level, file(word))).collect();
                let made = VersionEdit { family, new_files, ..VersionEdit::default() };
                set.log_and_apply(vec![made], |_| {}).map_err(Error::from).expect("levels that fit");
                continue;
            }
        };
        answer = match changed {
            Ok(()) => vec![show(&set)],
            Err(error) => {
                assert_eq!((show(&set), show_numbers(&set)), was, "{error}");
                vec![format!("refused: {error}")]
            }
        };
        check_durable(&fs, &set);
    }
    answer.join("\n")
}

/// Records as some other writer left them, behind one that makes a MANIFEST complete.
fn recorded(question: &str) -> String {
    let fs = new_fs();
    let manifest = Path::new(DIR).join("MANIFEST-000005");
    let mut writer = LogWriter::new(fs.create(&manifest, CreateMode::New).expect("a file"), None);
    let is_bare = question.lines().any(|line| line == "bare");
    let records = question.lines().filter_map(|line| line.strip_prefix("record "));
    for words in (!is_bare).then_some("log=4 next=9 last=7").into_iter().chain(records) {
        let mut record = Vec::new();
        edit(words).encode(&mut record);
        writer.add_record(&record).expect("written");
    }
    let current = fs.create(&Path::new(DIR).join(file_name::CURRENT), CreateMode::New).expect("a file");
    current.append(b"MANIFEST-000005\n").expect("written");
    match VersionSet::recover(config(&fs), false, &|_, _| None) {
        Err(error) => format!("refused: {error}"),
        Ok((set, recovered)) => {
            let mut answer = vec![show(&set)];
            for line in question.lines() {
                match line {
                    "numbers" => {
                        answer.push(format!("{}; next file {}", show_numbers(&set), set.new_file_number()));
                    }
                    "past" => answer.push(format!("ever named: {:?}", recovered.past.tables)),
                    _ => {}
                }
            }
            let expected = (show(&set), show_numbers(&set));
            set.switch_manifest().expect("a new MANIFEST");
            let again = recover(&fs).expect("our own MANIFEST");
            assert_eq!((show(&again), show_numbers(&again)), expected, "recovered from a new MANIFEST");
            answer.join("\n")
        }
    }
}

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/version/testdata").join(name)
}

#[test]
fn edits() {
    text::check(testdata("apply.txt"), edited);
}

#[test]
fn records() {
    text::check(testdata("manifest.txt"), recorded);
}
