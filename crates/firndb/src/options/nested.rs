//! Values of OPTIONS that hold options of their own: `{size_ratio=1;stop_style=kCompactionStopStyleTotalSize;}`.
//!
//! What this engine does not know in there is carried on as it is, like everything else in the file.
//!
//! Source: RocksDB `options/options_helper.cc`, `StringToMap`.

/// Deeper than RocksDB ever nests.
const DEPTH_MAX: usize = 16;

/// The names and values inside of the braces, in their order; `None` if the text is not of that form.
pub(super) fn pairs(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut pairs = Vec::new();
    while !rest.trim().is_empty() {
        let end = end_of_pair(rest)?;
        let (pair, after) = rest.split_at(end);
        rest = after.strip_prefix(';').unwrap_or(after);
        if !pair.trim().is_empty() {
            let (name, value) = pair.split_once('=')?;
            pairs.push((name.trim(), value.trim()));
        }
    }
    Some(pairs)
}

/// Where the first pair ends: at a `;` that is in no braces, or with the text.
fn end_of_pair(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if depth < DEPTH_MAX => depth += 1,
            b'{' => return None,
            b'}' => depth = depth.checked_sub(1)?,
            b';' if depth == 0 => return Some(index),
            _ => {}
        }
    }
    (depth == 0).then_some(text.len())
}

/// `new`, and what `old` says of options that `new` does not have.
pub(super) fn carried_on(old: &str, new: &str) -> String {
    let (Some(old), Some(new)) = (pairs(old), pairs(new)) else { return new.to_owned() };
    let is_new = |name: &str| new.iter().any(|(known, _)| *known == name);
    let others = old.iter().filter(|(name, _)| !is_new(name));
    shown(new.iter().chain(others).map(|(name, value)| (*name, (*value).to_owned())))
}

/// What `said` says that `usual` does not.
pub(super) fn differing(said: &str, usual: &str) -> String {
    let (Some(pairs_said), Some(usual)) = (pairs(said), pairs(usual)) else { return said.to_owned() };
    let differing = pairs_said.into_iter().filter(|pair| !usual.contains(pair));
    shown(differing.map(|(name, value)| (name, value.to_owned())))
}

/// The text of such a value.
pub(super) fn shown<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let inner: String = pairs.into_iter().map(|(name, value)| format!("{name}={value};")).collect();
    format!("{{{inner}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_may_hold_pairs_and_what_is_no_pair_is_refused() {
        let text = "{age_for_warm=0; file_temperature_age_thresholds={{age=1;temperature=kWarm;}};a=b=c;}";
        let inner =
            [("age_for_warm", "0"), ("file_temperature_age_thresholds", "{{age=1;temperature=kWarm;}}"), ("a", "b=c")];
        assert_eq!(pairs(text).expect("sound"), inner);
        assert_eq!(pairs("{}").expect("sound"), []);
        for text in ["", "a=1", "{a=1", "{a}", "{a={1;}", "{a=1};}", &"{a=".repeat(40)] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_carried_on() {
        assert_eq!(carried_on("{a=1;incremental=true;b=2;}", "{b=3;a=4;}"), "{b=3;a=4;incremental=true;}");
        assert_eq!(carried_on("23", "{a=4;}"), "{a=4;}");
    }
}
