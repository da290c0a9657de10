//! Pictures of levels, and what is picked of them.
//!
//! A line `L1: 5[a-f]:20 6[g-k]` has the files of a level, level 0 newest first: number, first and last key, bytes (10
//! unless said). Marks behind commas: `!` set aside, `e7` of epoch 7, `s5` all entries have number 5, `z` number 0, `d3/8`
//! 3 tombstones among 8 entries, `o2/8` 2 older versions, `t50` written at second 50, `t20/50` with data of
//! second 20, `m` marked by another writer, `x` a range
//! tombstone ends it before its last key. `config`
//! sets limits, and the style; `running 5,6 -> L2 a-f`
//! is the claim of a job that runs, `suggest 5,6` what somebody suggested, `snapshot 7` the oldest one, `now 70` the time. The last line asks: `pick`, `scores`, `stall`, `stuck`, `awaited`, `manual a-f` (and `skip`, `force` or `optimized`), `relevel 3 a-f 1`, `free a-f`.

use std::fmt::Write as _;

use firndb_testkit::{Random, text};

use super::plan::{Cursors, Suggestions};
use super::*;
use crate::compaction::claims::Wanted;
use crate::compaction::range::{KeyRange, files_overlap, overlapping};
use crate::compaction::styles::{
    CompactionOptionsFifo, CompactionOptionsUniversal, CompactionPri, CompactionStopStyle,
};
use crate::format::comparator::KeyOrder;
use crate::format::key::{exclusive_end, internal_key, user_key};
use crate::version::edit::FileMeta;

struct Picture {
    picker: Picker,
    files: Vec<(u32, FileMeta)>,
    bad: Vec<u64>,
    running: Vec<Wanted>,
    oldest_snapshot: SequenceNumber,
    newest_snapshot: Option<SequenceNumber>,
    now_s: u64,
    cursors: Cursors,
    suggested: Suggestions,
}

fn numbers(text: &str) -> Vec<FileNumber> {
    text.split(',').map(|number| FileNumber(number.trim().parse().expect("a number"))).collect()
}

fn keys(text: &str) -> KeyRange {
    let (begin, end) = text.trim().split_once('-').expect("begin-end");
    KeyRange { begin: begin.into(), end: end.into(), is_end_excluded: false }
}

impl Picture {
    fn new() -> Picture {
        let levels = LevelConfig {
            num_levels: 4,
            level0_trigger: 4,
            base_bytes: 100,
            multiplier: 10.0,
            target_file_size: 10,
            dynamic_level_bytes: false,
            pri: CompactionPri::default(),
            ttl_s: 0,
            period_s: 0,
            blobs: None,
        };
        Picture {
            picker: Picker::Leveled(levels),
            files: Vec::new(),
            bad: Vec::new(),
            running: Vec::new(),
            oldest_snapshot: SequenceNumber(2000),
            newest_snapshot: None,
            now_s: 0,
            cursors: Cursors::new(),
            suggested: Suggestions::new(),
        }
    }

    fn levels(&mut self) -> &mut LevelConfig {
        match &mut self.picker {
            Picker::Leveled(levels) | Picker::ByHand(levels) => levels,
            Picker::Universal(config) => &mut config.levels,
            Picker::Fifo(config) => &mut config.levels,
        }
    }

    fn config(&mut self, words: &str) {
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("trigger", value) => self.levels().level0_trigger = value.parse().expect("a number"),
                ("levels", value) => self.levels().num_levels = value.parse().expect("a number"),
                ("base", value) => self.levels().base_bytes = value.parse().expect("a number"),
                ("target", value) => self.levels().target_file_size = value.parse().expect("a number"),
                ("ttl", value) if matches!(self.picker, Picker::Leveled(_)) => {
                    self.levels().ttl_s = value.parse().expect("seconds");
                }
                ("period", value) if matches!(self.picker, Picker::Leveled(_)) => {
                    self.levels().period_s = value.parse().expect("seconds");
                }
                ("pri", value) => {
                    self.levels().pri = match value {
                        "size" => CompactionPri::ByCompensatedSize,
                        "oldest-largest" => CompactionPri::OldestLargestSeqFirst,
                        "oldest-smallest" => CompactionPri::OldestSmallestSeqFirst,
                        "round" => CompactionPri::RoundRobin,
                        other => panic!("no such choice: {other:?}"),
                    }
                }
                ("dynamic", _) => self.levels().dynamic_level_bytes = true,
                ("universal", _) => {
                    let levels = self.picker.levels().clone();
                    let options = CompactionOptionsUniversal::default();
                    self.picker = Picker::Universal(UniversalConfig { levels, options, slowdown: 20, period_s: 0 });
                }
                ("fifo", _) => {
                    let levels = self.picker.levels().clone();
                    let options = CompactionOptionsFifo { max_table_files_size: 100, allow_compaction: false };
                    self.picker = Picker::Fifo(FifoConfig { levels, options, ttl_s: 0, write_buffer_bytes: 20 });
                }
                (name, value) if self.universal(name, value) || self.fifo(name, value) => {}
                ("by-hand", _) => self.picker = Picker::ByHand(self.picker.levels().clone()),
                other => panic!("no such limit: {other:?}"),
            }
        }
    }

    /// Sets a limit of the universal style, if it is one.
    fn universal(&mut self, name: &str, value: &str) -> bool {
        let Picker::Universal(UniversalConfig { options, slowdown, period_s, .. }) = &mut self.picker else {
            return false;
        };
        let number = || value.parse::<u32>().expect("a number");
        match name {
            "ratio" => options.size_ratio = number(),
            "width" => {
                let (least, most) = value.split_once('-').expect("least-most");
                options.min_merge_width = least.parse().expect("a number");
                options.max_merge_width = most.parse().expect("a number");
            }
            "space" => options.max_size_amplification_percent = number(),
            "compressed" => options.compression_size_percent = value.parse().expect("a number"),
            "similar" => options.stop_style = CompactionStopStyle::SimilarSize,
            "moves" => options.allow_trivial_move = true,
            "slowdown" => *slowdown = value.parse().expect("a number"),
            "period" => *period_s = value.parse().expect("seconds"),
            _ => return false,
        }
        true
    }

    /// The same of the FIFO style.
    fn fifo(&mut self, name: &str, value: &str) -> bool {
        let Picker::Fifo(FifoConfig { options, ttl_s, .. }) = &mut self.picker else { return false };
        match name {
            "max" => options.max_table_files_size = value.parse().expect("bytes"),
            "merges" => options.allow_compaction = true,
            "ttl" => *ttl_s = value.parse().expect("seconds"),
            _ => return false,
        }
        true
    }

    fn file(&mut self, level: u32, word: &str, place: u64) {
        let (number, rest) = word.split_once('[').expect("number[begin-end]");
        let (range, rest) = rest.split_once(']').expect("number[begin-end]");
        let (range, number) = (keys(range), number.parse().expect("a number"));
        let mut is_end_excluded = false;
        let mut marks = rest.split(',');
        let size = marks.next().and_then(|size| size.strip_prefix(':')).map_or(10, |size| size.parse().expect("bytes"));
        let sequence = if level == 0 { 1000 - place } else { 100 - u64::from(level) };
        let mut meta = FileMeta {
            number: FileNumber(number),
            size,
            smallest_seq: SequenceNumber(sequence),
            largest_seq: SequenceNumber(sequence),
            epoch: sequence,
            ..FileMeta::default()
        };
        for mark in marks {
            match mark.split_at(1) {
                ("!", _) => self.bad.push(number),
                ("e", epoch) => meta.epoch = epoch.parse().expect("an epoch"),
                ("s", sequence) => {
                    let sequence = SequenceNumber(sequence.parse().expect("a number"));
                    (meta.smallest_seq, meta.largest_seq) = (sequence, sequence);
                }
                (kind @ ("d" | "o"), part) => {
                    let (some, all) = part.split_once('/').expect("some of all");
                    let counts = meta.counts.get_or_insert_default();
                    counts.entries = all.parse().expect("a number");
                    counts.older_versions.get_or_insert(0);
                    let some = some.parse().expect("a number");
                    if kind == "d" {
                        counts.deletions = some;
                    } else {
                        counts.older_versions = Some(some);
                    }
                    (counts.key_bytes, counts.value_bytes) = (counts.entries, size - counts.entries);
                }
                ("t", time) => {
                    let (data, file) = time.split_once('/').unwrap_or((time, time));
                    meta.oldest_ancester_time = data.parse().expect("seconds");
                    meta.creation_time = file.parse().expect("seconds");
                }
                ("m", _) => meta.is_marked_for_compaction = true,
                ("x", _) => is_end_excluded = true,
                ("z", _) => (meta.smallest_seq, meta.largest_seq) = (SequenceNumber(0), SequenceNumber(0)),
                other => panic!("no such mark: {other:?}"),
            }
        }
        meta.smallest = internal_key(&range.begin, meta.largest_seq, 1);
        meta.largest = match is_end_excluded {
            true => exclusive_end(&range.end),
            false => internal_key(&range.end, meta.largest_seq, 1),
        };
        self.files.push((level, meta));
    }

    fn line(&mut self, line: &str) -> Option<String> {
        if let Some(words) = line.strip_prefix("config ") {
            self.config(words);
        } else if let Some(job) = line.strip_prefix("running ") {
            let (files, output) = job.split_once(" -> L").expect("files -> Llevel begin-end");
            let (level, range) = output.split_once(' ').expect("level begin-end");
            let output_level = level.parse().expect("a level");
            self.running.push(Wanted { files: numbers(files), output_level, range: keys(range) });
        } else if let Some(sequence) = line.strip_prefix("snapshot ") {
            self.oldest_snapshot = SequenceNumber(sequence.parse().expect("a number"));
            self.newest_snapshot = Some(self.oldest_snapshot);
        } else if let Some((level, key)) = line.strip_prefix("cursor L").and_then(|rest| rest.split_once(' ')) {
            let cursor = internal_key(key.as_bytes(), SequenceNumber::MAX, 1);
            self.cursors.insert(level.parse().expect("a level"), cursor);
        } else if let Some(files) = line.strip_prefix("suggest ") {
            self.suggested = numbers(files).into_iter().collect();
        } else if let Some(now) = line.strip_prefix("now ") {
            self.now_s = now.parse().expect("seconds");
        } else if let Some((level, files)) = line.strip_prefix('L').and_then(|rest| rest.split_once(':')) {
            let level = level.parse().expect("a level");
            files.split_whitespace().zip(0..).for_each(|(word, place)| self.file(level, word, place));
        } else {
            return Some(self.answer(line));
        }
        None
    }

    fn answer(&self, question: &str) -> String {
        let levels = self.picker.levels().num_levels;
        let version = Version::from_files(KeyOrder::Bytewise, levels, self.files.clone()).expect("sound");
        let bad = |number: FileNumber| self.bad.contains(&number.0);
        version.files().filter(|(_, file)| bad(file.number())).for_each(|(_, file)| file.set_aside());
        let claims = Claims::of(self.running.iter().cloned());
        let version = Arc::new(version);
        let (newest_snapshot, now_s) = (self.newest_snapshot, self.now_s);
        let view = View {
            newest_snapshot,
            now_s,
            cursors: &self.cursors,
            suggested: &self.suggested,
            ..View::of(&version, &claims, self.oldest_snapshot)
        };
        match question.split_once(' ').unwrap_or((question, "")) {
            ("pick", _) => self.picker.pick(&view).map_or("nothing".to_owned(), |job| show(&job)),
            ("scores", _) => {
                let scores = self.picker.scores(&version, &claims);
                scores.iter().map(|(level, score)| format!("L{level} {score:.2}")).collect::<Vec<_>>().join("\n")
            }
            ("stall", _) => {
                let counts = self.picker.stall_counts(&version);
                format!("{} files, {} bytes", counts.level0_files, counts.pending_bytes)
            }
            ("awaited", _) => match self.picker.awaited_snapshot(&version, self.oldest_snapshot) {
                Some(sequence) => sequence.to_string(),
                None => "none".to_owned(),
            },
            ("awaited-time", _) => format!("{:?}", self.picker.awaited_time(&version)),
            ("waiting", _) => format!("{:?}", self.picker.waiting_drop(&view)),
            ("stuck", _) => self.picker.is_stuck(&view).to_string(),
            ("relevel", question) => {
                let mut words = question.split(' ');
                let from = words.next().and_then(|level| level.parse().ok()).expect("a level");
                let range = keys(words.next().expect("begin-end"));
                let target = words.next().map(|level| level.parse().expect("a level"));
                let range = (Some(&range.begin[..]), Some(&range.end[..]));
                match relevel(&version, self.picker.levels(), from, range, target) {
                    Relevel::Nothing => "nothing".to_owned(),
                    Relevel::Move(job) => show(&job),
                    Relevel::InTheWay(level) => format!("level {level} is in the way"),
                }
            }
            ("free", range) => {
                let KeyRange { begin, end, .. } = keys(range);
                let range = DoomedRange {
                    begin: Some(begin),
                    is_begin_excluded: false,
                    end: Some(end),
                    is_end_excluded: false,
                };
                let (job, staying) = whole_files(&view, &[range]);
                let job = job.map_or("nothing".to_owned(), |job| show(&job));
                let Staying { for_snapshots, for_jobs, for_older } = staying;
                match for_snapshots + for_jobs + for_older {
                    0 => job,
                    _ => format!(
                        "{job}; staying: {for_snapshots} for snapshots, {for_jobs} for jobs, {for_older} above older"
                    ),
                }
            }
            ("manual", question) => manual(&self.picker, &view, question),
            other => panic!("no such question: {other:?}"),
        }
    }
}

fn show(job: &Compaction) -> String {
    let inputs = job.inputs.iter().map(|(level, files)| {
        let files: Vec<_> = files.iter().map(|file| file.number().0.to_string()).collect();
        format!("L{level} {}", files.join(" "))
    });
    let inputs: Vec<_> = inputs.collect();
    if job.is_drop {
        return format!("drop {}", inputs.join(" + "));
    }
    let verb = if job.is_trivial_move { "move" } else { "merge" };
    let how = if job.is_compressed { "" } else { ", not compressed" };
    let age = job.created_s.map_or(String::new(), |time| format!(", of second {time}"));
    let cursor = job.cursor.as_ref().map_or(String::new(), |(level, key)| {
        format!(", then L{level} from {}", String::from_utf8_lossy(user_key(key)))
    });
    format!("{verb} {} -> L{}{how}{age}{cursor}", inputs.join(" + "), job.output_level)
}

/// All steps, as if none changed the picture but for what it took away.
fn manual(picker: &Picker, view: &View<'_>, question: &str) -> String {
    use crate::compaction::request::BottommostLevelCompaction::{Force, ForceOptimized, IfHaveFilter, Skip};
    let (question, was_moved) = question.strip_suffix(" moved").map_or((question, false), |rest| (rest, true));
    let (range, how) = question.split_once(' ').unwrap_or((question, ""));
    let range = keys(range);
    // Other jobs moved the files down after the call.
    let mut at_call = Arc::clone(view.version);
    if was_moved {
        let files = view.version.files().map(|(_, file)| (0, file.meta.clone())).collect();
        at_call = Arc::new(Version::from_files(KeyOrder::Bytewise, view.version.levels.len(), files).expect("sound"));
    }
    let bottommost = match how {
        "" => IfHaveFilter,
        "skip" => Skip,
        "force" => Force,
        "optimized" => ForceOptimized,
        other => panic!("no such way: {other:?}"),
    };
    let range = (Some(&range.begin[..]), Some(&range.end[..]));
    let mut manual = picker.begin_manual(&at_call, range, SequenceNumber(1500), FileNumber(900), bottommost);
    let mut steps = String::new();
    loop {
        match picker.next_manual(&mut manual, view) {
            Next::Done => return steps + "done",
            Next::Blocked(number) => return format!("{steps}blocked by {}", number.0),
            Next::Run(job) => {
                writeln!(steps, "{}", show(&job)).expect("memory");
                manual.done(&job);
            }
        }
    }
}

fn answer(question: &str) -> String {
    let mut picture = Picture::new();
    let answers: Vec<String> = question.lines().filter_map(|line| picture.line(line)).collect();
    answers.join("\n")
}

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compaction/picker/testdata").join(name)
}

#[test]
fn leveled() {
    text::check(testdata("leveled.txt"), answer);
}

#[test]
fn level_0_goes_around_damage_and_running_jobs() {
    text::check(testdata("level0.txt"), answer);
}

#[test]
fn files_that_were_suggested() {
    text::check(testdata("suggested.txt"), answer);
}

#[test]
fn files_that_change_their_level() {
    text::check(testdata("relevel.txt"), answer);
}

#[test]
fn files_that_go_whole() {
    text::check(testdata("whole_files.txt"), answer);
}

#[test]
fn garbage() {
    text::check(testdata("garbage.txt"), answer);
}

#[test]
fn universal() {
    text::check(testdata("universal.txt"), answer);
}

#[test]
fn aged() {
    text::check(testdata("aged.txt"), answer);
}

#[test]
fn fifo() {
    text::check(testdata("fifo.txt"), answer);
}

#[test]
fn by_hand() {
    text::check(testdata("manual.txt"), answer);
}

/// Random levels with damage in them: level 0 in any order, the others without overlaps.
fn random_version(random: &mut Random) -> (Arc<Version>, Vec<u64>) {
    let mut picture = Picture::new();
    let (mut number, mut bad) = (1, Vec::new());
    let letter = |at: u64| char::from(b'a' + at as u8);
    for level in 0..4u32 {
        let mut from = 0;
        for place in 0..random.below(if level == 0 { 12 } else { 8 }) {
            let (begin, end) = if level == 0 {
                let begin = random.below(20);
                (begin, begin + random.below(6))
            } else {
                let begin = from + random.below(3);
                (begin, begin + random.below(3))
            };
            from = end + 1;
            if end > 25 {
                break;
            }
            let size = 1 + random.below(80);
            let mark = if random.below(6) == 0 { ",!" } else { "" };
            let word = format!("{number}[{}-{}]:{size}{mark}", letter(begin), letter(end));
            picture.file(level, &word, place);
            number += 1;
        }
    }
    bad.append(&mut picture.bad);
    let version = Version::from_files(KeyOrder::Bytewise, 4, picture.files).expect("sound");
    let is_bad = |number: FileNumber| bad.contains(&number.0);
    version.files().filter(|(_, file)| is_bad(file.number())).for_each(|(_, file)| file.set_aside());
    (Arc::new(version), bad)
}

/// The invariants of the module's text, for one job.
fn check_job(job: &Compaction) {
    let (version, order) = (&job.version, &job.version.order);
    let is_input = |number: FileNumber| job.files().any(|(_, file)| file.number() == number);
    let newest_first = version.level(0).expect("there").files();
    for (level, file) in job.files() {
        assert!(!file.is_set_aside(), "{}", show(job));
        let age = newest_first.iter().position(|other| other.number() == file.number());
        for below in 0..=job.output_level {
            let others = version.level(below).expect("there").files().iter().enumerate();
            for (place, other) in others.filter(|(_, other)| files_overlap(order, file, other)) {
                let is_older = below > level || (below == 0 && level == 0 && age.is_some_and(|age| place > age));
                assert!(
                    !is_older || job.output_level == 0 || is_input(other.number()),
                    "{} passes {other:?}",
                    show(job)
                );
            }
        }
    }
    if job.output_level > 0 {
        let range = KeyRange::of(order, job.files().map(|(_, file)| file)).expect("it has inputs");
        for file in overlapping(version, job.output_level, &range) {
            assert!(is_input(file.number()), "{} writes over {file:?}", show(job));
        }
    } else {
        let places: Vec<usize> = (0..newest_first.len()).filter(|at| is_input(newest_first[*at].number())).collect();
        assert!(places.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{} are no neighbours", show(job));
    }
}

/// What is picked while nothing runs; then what is picked beside that.
fn check_random_picks(picker: &Picker, rounds: u64, must_pick: impl Fn(&Arc<Version>) -> bool) -> [usize; 3] {
    let seed = firndb_testkit::from_environment("FIRN_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let (mut around, mut within, mut beside) = (0, 0, 0);
    for round in 0..rounds {
        let (version, bad) = random_version(&mut random);
        let claims = Claims::default();
        let view = View::of(&version, &claims, SequenceNumber(2000));
        let picked = picker.pick(&view);
        assert!(
            picked.is_some() || !must_pick(&version),
            "seed {seed}, round {round}: {:?} {version:?}, bad {bad:?}",
            picker.stall_counts(&version)
        );
        let Some(job) = picked else { continue };
        check_job(&job);
        around += usize::from(!bad.is_empty() && job.inputs[0].0 == 0);
        within += usize::from(job.output_level == 0);
        let claims = Claims::of([job.wanted()]);
        if let Some(second) = picker.pick(&View::of(&version, &claims, SequenceNumber(2000))) {
            check_job(&second);
            assert!(!second.files().any(|(_, file)| claims.has_file(file.number())), "{}", show(&second));
            beside += 1;
        }
    }
    [around, within, beside]
}

#[test]
fn what_scores_and_stalls_count_can_be_picked_whatever_is_damaged() {
    let Picture { picker, .. } = Picture::new();
    let [around, within, _] = check_random_picks(&picker, 20_000, |version| {
        let is_due = picker.scores(version, &Claims::default()).iter().any(|(_, score)| *score >= 1.0);
        is_due || picker.stall_counts(version).level0_files >= picker.levels().level0_trigger
    });
    assert!(around > 100 && within > 100, "{around} {within}");
}

#[test]
fn universal_runs_that_stall_can_be_merged_and_their_order_by_age_holds() {
    let mut picture = Picture::new();
    picture.config("universal slowdown=5 width=3-4");
    let picker = &picture.picker;
    let [around, within, beside] =
        check_random_picks(picker, 10_000, |version| picker.stall_counts(version).level0_files >= 5);
    assert!(around > 100 && within > 100 && beside > 100, "{around} {within} {beside}");
}
