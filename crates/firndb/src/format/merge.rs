//! Merge operators: how the operands of a key become its value.
//!
//! [`MergeRule`] is what the engine holds: RocksDB's built-in operators, or a user's [`MergeOperator`].
//!
//! Source: RocksDB wiki "Merge Operator Implementation"; `utilities/merge_operators` for the built-in ones.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a merge operator says instead of a value: why it has none.
pub type MergeFailure = Cow<'static, str>;

/// Makes a value of a key's operands, named by a string that is stored in tables and OPTIONS.
///
/// A merge writes an operand without reading; the operator is called when the key is read, and when a flush or a compaction
/// meets its operands. It must be pure: the same arguments always give the same value, in every process.
///
/// It is called by readers and by background work, also while the engine holds locks of a read or job: it must not call the
/// database.
///
/// ```
/// use firndb::{MergeFailure, MergeOperator};
///
/// /// The longest of all operands; the first one of that length.
/// struct Longest;
///
/// impl MergeOperator for Longest {
///     fn name(&self) -> &str {
///         "example.Longest"
///     }
///     fn full_merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, MergeFailure> {
///         let mut longest = base.unwrap_or_default();
///         for operand in operands.iter().filter(|operand| operand.len() > longest.len()) {
///             longest = operand;
///         }
///         Ok(longest.to_vec())
///     }
///     fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
///         self.full_merge(key, Some(older), &[newer]).ok()
///     }
/// }
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The name stored in tables and OPTIONS. Another behaviour needs another name.
    fn name(&self) -> &str;

    /// The value of `key`: `base` is its value before the operands, if it had one; `operands` are the oldest first, at least
    /// one.
    ///
    /// # Errors
    /// Why there is no value: reads of the key then fail with [`Corruption`](crate::ErrorKind::Corruption) and this text, and
    /// compactions leave the operands as they are.
    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, MergeFailure>;

    /// One operand that does what `older` and then `newer` do, whatever is below; `None`, the default, if there is none. It
    /// makes operands fewer before their base is known.
    fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let _ = (key, older, newer);
        None
    }
}

/// A merge operator: one of RocksDB's, or a user's.
#[non_exhaustive]
#[derive(Clone)]
pub enum MergeRule {
    /// Little-endian numbers of 64 bits are added, without overflow; what has another length counts as 0. RocksDB's
    /// `uint64add`.
    UInt64Add,
    /// Operands are appended, with the delimiter between them. RocksDB's `stringappend`.
    StringAppend {
        /// RocksDB's default is `,`.
        delimiter: Vec<u8>,
    },
    /// The newest operand is the value. RocksDB's `put`.
    Put,
    /// The largest of value and operands, as unsigned bytes. RocksDB's `max`.
    Max,
    /// Bytes are combined by exclusive or; the shorter is taken to end in zeros. RocksDB's `bytesxor`.
    BytesXor,
    /// Anything else.
    Custom(Arc<dyn MergeOperator>),
    /// One that the directory names and the program did not give: what needs it fails, and says this name.
    Unknown(String),
}

impl fmt::Debug for MergeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MergeRule({})", self.name())
    }
}

impl MergeRule {
    /// A user's operator.
    pub fn custom(operator: impl MergeOperator) -> MergeRule {
        MergeRule::Custom(Arc::new(operator))
    }

    /// An operator that makes of a value, or of none, and an operand a value which is an operand as well: an associative one.
    ///
    /// ```
    /// let longest = firndb::MergeRule::associative("example.Longest", |_key, value, operand| match value {
    ///     Some(value) if value.len() >= operand.len() => value.to_vec(),
    ///     _ => operand.to_vec(),
    /// });
    /// assert_eq!(longest.name(), "example.Longest");
    /// ```
    pub fn associative(
        name: impl Into<String>,
        merge: impl Fn(&[u8], Option<&[u8]>, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> MergeRule {
        MergeRule::custom(Associative { name: name.into(), merge })
    }

    /// The name stored in tables and OPTIONS.
    pub fn name(&self) -> &str {
        match self {
            MergeRule::UInt64Add => "UInt64AddOperator",
            MergeRule::StringAppend { .. } => "StringAppendOperator",
            MergeRule::Put => "PutOperator",
            MergeRule::Max => "MaxOperator",
            MergeRule::BytesXor => "BytesXOR",
            MergeRule::Custom(operator) => operator.name(),
            MergeRule::Unknown(name) => name,
        }
    }

    /// The operator that RocksDB calls so, by its name or by the short one; `None` if it is none of RocksDB's own.
    ///
    /// ```
    /// let rule = firndb::MergeRule::built_in("uint64add").expect("it is one");
    /// assert_eq!(rule.name(), "UInt64AddOperator");
    /// assert!(firndb::MergeRule::built_in("somebody.Elses").is_none());
    /// ```
    pub fn built_in(name: &str) -> Option<MergeRule> {
        Some(match name {
            "UInt64AddOperator" | "uint64add" => MergeRule::UInt64Add,
            "StringAppendOperator" | "StringAppendTESTOperator" | "stringappend" | "stringappendtest" => {
                MergeRule::StringAppend { delimiter: b",".to_vec() }
            }
            "PutOperator" | "put" | "put_v1" => MergeRule::Put,
            "MaxOperator" | "max" => MergeRule::Max,
            "BytesXOR" | "bytesxor" => MergeRule::BytesXor,
            _ => return None,
        })
    }

    /// See [`MergeOperator::full_merge`].
    pub(crate) fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, MergeFailure> {
        let all = || base.into_iter().chain(operands.iter().copied());
        Ok(match self {
            MergeRule::UInt64Add => all().map(number).fold(0, u64::wrapping_add).to_le_bytes().to_vec(),
            MergeRule::StringAppend { delimiter } => all().collect::<Vec<_>>().join(&delimiter[..]),
            MergeRule::Put => operands.last().copied().unwrap_or_default().to_vec(),
            MergeRule::Max => all().max().unwrap_or_default().to_vec(),
            MergeRule::BytesXor => all().fold(Vec::new(), xor),
            MergeRule::Custom(operator) => return operator.full_merge(key, base, operands),
            MergeRule::Unknown(_) => return Err("the program gave no such operator".into()),
        })
    }

    /// See [`MergeOperator::partial_merge`].
    pub(crate) fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        match self {
            MergeRule::Custom(operator) => operator.partial_merge(key, older, newer),
            MergeRule::Unknown(_) => None,
            built_in => built_in.full_merge(key, None, &[older, newer]).ok(),
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

fn xor(mut all: Vec<u8>, more: &[u8]) -> Vec<u8> {
    all.resize(all.len().max(more.len()), 0);
    all.iter_mut().zip(more).for_each(|(byte, other)| *byte ^= other);
    all
}

struct Associative<F> {
    name: String,
    merge: F,
}

impl<F: Fn(&[u8], Option<&[u8]>, &[u8]) -> Vec<u8> + Send + Sync + 'static> MergeOperator for Associative<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, MergeFailure> {
        let mut value: Option<Vec<u8>> = None;
        for operand in operands {
            value = Some((self.merge)(key, value.as_deref().or(base), operand));
        }
        Ok(value.or_else(|| base.map(<[u8]>::to_vec)).unwrap_or_default())
    }

    fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some((self.merge)(key, Some(older), newer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_operators_do_what_rocksdbs_do() {
        let full = |rule: &MergeRule, base: Option<&[u8]>, operands: &[&[u8]]| {
            rule.full_merge(b"k", base, operands).expect("they never fail")
        };
        let le = |n: u64| n.to_le_bytes().to_vec();
        assert_eq!(full(&MergeRule::UInt64Add, Some(&le(7)), &[&le(u64::MAX), &le(2)]), le(8));
        assert_eq!(full(&MergeRule::UInt64Add, Some(b"no number"), &[&le(2)]), le(2));
        let append = MergeRule::StringAppend { delimiter: b", ".to_vec() };
        assert_eq!(full(&append, Some(b""), &[b"a", b"b"]), b", a, b");
        assert_eq!(full(&append, None, &[b"a", b"b"]), b"a, b");
        assert_eq!(full(&MergeRule::Put, Some(b"z"), &[b"a", b"b"]), b"b");
        assert_eq!(full(&MergeRule::Max, Some(b"m"), &[b"a", b"z"]), b"z");
        assert_eq!(full(&MergeRule::BytesXor, Some(&[1, 2]), &[&[3], &[0, 0, 9]]), [2, 2, 9]);
        for rule in [MergeRule::UInt64Add, append, MergeRule::Put, MergeRule::Max, MergeRule::BytesXor] {
            // Two operands that were made one do what both do, over any base.
            let (older, newer) = (le(3), le(u64::MAX - 1));
            let one = rule.partial_merge(b"k", &older, &newer).expect("all of them can");
            for base in [None, Some(&le(5)[..])] {
                assert_eq!(full(&rule, base, &[&one]), full(&rule, base, &[&older, &newer]), "{rule:?}");
            }
            assert_eq!(MergeRule::built_in(rule.name()).expect("known").name(), rule.name());
        }
    }

    #[test]
    fn an_associative_operator_takes_operands_one_by_one_and_an_unknown_one_says_so() {
        let append =
            MergeRule::associative("test.append", |_, value, operand| [value.unwrap_or(b"<"), operand].concat());
        assert_eq!(append.full_merge(b"k", None, &[b"a", b"b"]).expect("merges"), b"<ab");
        assert_eq!(append.full_merge(b"k", Some(b"x"), &[b"a"]).expect("merges"), b"xa");
        assert_eq!(append.partial_merge(b"k", b"a", b"b"), Some(b"ab".to_vec()));
        let unknown = MergeRule::Unknown("somebody's".to_owned());
        assert!(unknown.full_merge(b"k", None, &[b"a"]).is_err() && unknown.partial_merge(b"k", b"a", b"b").is_none());
    }
}
