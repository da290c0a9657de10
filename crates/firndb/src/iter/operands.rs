//! Operands of a key on their way to its value.
//!
//! Flow: `read` finds operands, the newest first -> **[`Operands`]** -> the family's merge operator, over the base below them.

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::limits::{RECORD_BYTES_MAX, VALUE_BYTES_MAX, exceeded};
use crate::format::merge::MergeRule;

/// Gathered for one key, from the newest to the oldest or the other way round. They take no more memory than a batch may.
#[derive(Debug, Default)]
pub(crate) struct Operands {
    all: Vec<Vec<u8>>,
    bytes: usize,
}

impl Operands {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }

    /// # Errors
    /// `Limit`: they have more bytes than can be merged at once.
    pub(crate) fn push(&mut self, operand: &[u8]) -> Result<()> {
        self.bytes += operand.len();
        if self.bytes > RECORD_BYTES_MAX {
            return Err(exceeded("the operands of one key", self.bytes, RECORD_BYTES_MAX));
        }
        self.all.push(operand.to_vec());
        Ok(())
    }

    /// They were pushed from the newest to the oldest: turns them round.
    pub(crate) fn reverse(&mut self) {
        self.all.reverse();
    }

    pub(crate) fn into_vec(self) -> Vec<Vec<u8>> {
        self.all
    }

    /// The value of `key`: `base` and these operands, the oldest first.
    ///
    /// # Errors
    /// `NotSupported` without an operator; `Corruption` if the operator has no value for them; `Limit` for one that is too long.
    pub(crate) fn merged(&self, rule: Option<&MergeRule>, key: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>> {
        let operands: Vec<&[u8]> = self.all.iter().map(Vec::as_slice).collect();
        let rule = match rule {
            None => return Err(without_operator(None)),
            Some(MergeRule::Unknown(name)) => return Err(without_operator(Some(name))),
            Some(rule) => rule,
        };
        let value = rule.full_merge(key, base, &operands).map_err(|why| failed(rule, key, &why))?;
        match value.len() <= VALUE_BYTES_MAX {
            true => Ok(value),
            false => Err(exceeded("a merged value", value.len(), VALUE_BYTES_MAX)),
        }
    }
}

#[cold]
pub(crate) fn without_operator(name: Option<&str>) -> Error {
    let what = match name {
        Some(name) => {
            format!("the key needs the merge operator {name}, which the program did not give (`merge_operator`)")
        }
        None => "the key has merge operands, and the column family has no merge operator (`merge_operator`)".to_owned(),
    };
    Error::new(ErrorKind::NotSupported, what)
}

#[cold]
fn failed(rule: &MergeRule, key: &[u8], why: &str) -> Error {
    let shown = &key[..key.len().min(64)];
    let what = format!("merge operator {} has no value for key \"{}\": {why}", rule.name(), shown.escape_ascii());
    Error::corrupt(CorruptionKind::Malformed, what)
}
