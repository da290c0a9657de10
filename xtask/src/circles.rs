//! Which files of the engine use each other in a circle.
//!
//! Flow: `tidy` hands in every file -> [`Files::add`] -> [`Files::circles`], the groups of files that can only be read
//! together. Rows keep modules apart; this looks at the files inside of them.
//!
//! Rules
//! 1. A file uses another if it names a path into it, by `crate::`, `super::` or `self::`. What a `mod.rs` re-exports
//!    belongs to the file that it comes from.
//! 2. A `mod.rs` stands for its room: that it names the files below it is no use. That they use what it defines is one.
//! 3. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{line_of, paths};

/// The files of one crate, by their module paths.
#[derive(Default)]
pub(crate) struct Files {
    files: BTreeMap<Vec<String>, File>,
}

struct File {
    /// As it is shown: inside of `src`.
    name: String,
    code: String,
}

/// Files that use each other, and by which lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub(crate) files: BTreeSet<String>,
    /// `(user, line, used)`.
    pub(crate) uses: Vec<(String, usize, String)>,
}

impl Files {
    /// Adds a file by its path inside `src`, its code without comments and tests.
    pub(crate) fn add(&mut self, inside: &str, code: &str) {
        let path = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        self.files.insert(path, File { name: inside.to_owned(), code: code.to_owned() });
    }

    /// The groups of two or more files of which each leads to each other.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let exports = self.exports();
        let mut uses: BTreeMap<&Vec<String>, BTreeMap<&Vec<String>, usize>> = BTreeMap::new();
        for (user, file) in &self.files {
            for (at, path) in absolute_paths(user, &file.code) {
                let Some(used) = self.home_of(&path, &exports) else { continue };
                let is_below = file.name.ends_with("mod.rs") && used.starts_with(user);
                if used != user && !is_below {
                    uses.entry(user).or_default().entry(used).or_insert_with(|| line_of(&file.code, at));
                }
            }
        }
        let reached: BTreeMap<_, _> = self.files.keys().map(|file| (file, reach(file, &uses))).collect();
        let mut circles = Vec::new();
        let mut done = BTreeSet::new();
        for file in self.files.keys() {
            let group: BTreeSet<_> =
                reached[file].iter().copied().filter(|other| reached[*other].contains(file)).collect();
            if group.len() > 1 && !done.contains(file) {
                done.extend(group.iter().copied());
                circles.push(self.circle(&group, &uses));
            }
        }
        circles
    }

    fn circle(
        &self,
        group: &BTreeSet<&Vec<String>>,
        uses: &BTreeMap<&Vec<String>, BTreeMap<&Vec<String>, usize>>,
    ) -> Circle {
        let name = |path: &Vec<String>| self.files[path].name.clone();
        let inner = |user: &&Vec<String>| {
            let used = uses[*user].iter().filter(|(used, _)| group.contains(*used));
            used.map(|(used, line)| (name(user), *line, name(used))).collect::<Vec<_>>()
        };
        Circle { files: group.iter().map(|path| name(path)).collect(), uses: group.iter().flat_map(inner).collect() }
    }

    /// What each `mod.rs` takes in from the files below it, by name.
    fn exports(&self) -> BTreeMap<Vec<String>, Vec<String>> {
        let mut exports = BTreeMap::new();
        for (room, file) in self.files.iter().filter(|(_, file)| file.name.ends_with("mod.rs")) {
            let mut found = absolute_paths(room, &file.code);
            for statement in file.code.split(';') {
                // `use child::Name` without `self::`.
                if let Some((_, path)) = statement.split_once("use ")
                    && let Some(child) = path.split("::").next()
                    && self.files.contains_key(&[room.as_slice(), &[child.to_owned()]].concat())
                {
                    let code = format!("self::{path}");
                    found.extend(absolute_paths(room, &code));
                }
            }
            for (_, path) in found {
                if path.len() > room.len() + 1 && path.starts_with(room) {
                    let name = path[path.len() - 1].clone();
                    exports.insert([room.as_slice(), &[name]].concat(), path);
                }
            }
        }
        exports
    }

    /// The file that a path leads into.
    fn home_of(&self, path: &[String], exports: &BTreeMap<Vec<String>, Vec<String>>) -> Option<&Vec<String>> {
        let (home, _) = (1..=path.len()).rev().find_map(|len| self.files.get_key_value(&path[..len]))?;
        let named = path.get(..=home.len())?;
        match exports.get(named) {
            Some(origin) if origin != path => self.home_of(origin, &BTreeMap::new()),
            _ => Some(home),
        }
    }
}

/// Every path of the code that starts at a known module, written out from the crate's root, and where it stands.
fn absolute_paths(file: &[String], code: &str) -> Vec<(usize, Vec<String>)> {
    let split = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let mut found: Vec<(usize, Vec<String>)> =
        paths(code, "crate").into_iter().map(|(at, path)| (at, split(&path))).collect();
    for (at, path) in paths(code, "self") {
        found.push((at, [file, &split(&path)].concat()));
    }
    for (at, path) in paths(code, "super") {
        let parts = split(&path);
        let climbs = 1 + parts.iter().take_while(|part| *part == "super").count();
        let Some(kept) = file.len().checked_sub(climbs) else { continue };
        found.push((at, [&file[..kept], &parts[climbs - 1..]].concat()));
    }
    found
}

/// Every file to which some uses lead, the file itself included.
fn reach<'a>(
    start: &'a Vec<String>,
    uses: &BTreeMap<&'a Vec<String>, BTreeMap<&'a Vec<String>, usize>>,
) -> BTreeSet<&'a Vec<String>> {
    let (mut reached, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some(file) = open.pop() {
        let next = uses.get(file).into_iter().flat_map(BTreeMap::keys).filter(|used| reached.insert(*used));
        open.extend(next.collect::<Vec<_>>());
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let mut all = Files::default();
        files.iter().for_each(|(name, code)| all.add(name, code));
        all.circles().into_iter().map(|circle| circle.files.into_iter().collect()).collect()
    }

    #[test]
    fn files_that_use_each_other_are_a_circle_by_whatever_path() {
        for (a, b) in [
            ("use super::b::B;", "use super::a::A;"),
            ("use crate::room::b::B;", "fn f(_: super::a::A) {}"),
            ("use super::{b::B, c::C};", "use crate::room::{a::A, c};"),
            ("use super::B;", "use super::A;"),
        ] {
            let found = circles(&[
                ("room/mod.rs", "mod a; mod b; mod c; pub use a::A; pub(crate) use self::b::{B, Other};"),
                ("room/a.rs", a),
                ("room/b.rs", b),
                ("room/c.rs", ""),
            ]);
            assert_eq!(found, [["room/a.rs", "room/b.rs"]], "{a} {b}");
        }
        let three = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
        assert_eq!(circles(&three), [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn a_room_names_its_files_and_they_use_what_it_defines() {
        let room = "mod a; mod b; use a::A; pub use b::B; pub struct Own(A);";
        assert!(
            circles(&[("room/mod.rs", room), ("room/a.rs", "use super::Own;"), ("room/b.rs", "use super::a::A;")])
                .is_empty()
        );
        let through = [
            ("room/mod.rs", "mod a; mod b;"),
            ("room/a.rs", "use super::b::B;"),
            ("room/b.rs", "use crate::c::C;"),
            ("c.rs", ""),
        ];
        assert!(circles(&through).is_empty());
    }
}
