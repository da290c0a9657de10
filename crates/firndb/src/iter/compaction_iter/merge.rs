//! What a job makes of the operands of a key.
//!
//! Operands of one stripe are taken together, from the newest down to the first entry that is none:
//! 1. A value, one in a blob file that can be read, or an entity below them in the stripe, a tombstone of either sort, a range tombstone, or nothing at all (the input has no older
//!    entry of the key, and nothing below the job can): they become one value, or the entity with another default column, which hides the rest of the
//!    stripe.
//! 2. The end of the stripe, or of what the job reads: they become one operand, if the operator can make one of two.
//! 3. Where the operator says that it has no value, they stay as they are: it is for readers to hear why.

use std::cmp::Ordering;

use super::filter::Operand;
use super::{
    CompactionIter, InternalIterator, Output, ParsedKey, Result, SequenceNumber, ToJob, ValueKind, internal_key,
    user_key,
};
use crate::format::entity::{default_column, with_default_column};
use crate::format::limits::VALUE_BYTES_MAX;
use crate::format::merge::MergeRule;
use crate::sync::Arc;

/// What is below the operands.
enum Base {
    Value(Vec<u8>),
    Entity(Vec<u8>),
    /// Nothing, for certain.
    None,
    /// Something that the job does not see, or may not look through to.
    Unknown,
}

impl<I: InternalIterator, B: FnMut(&[u8]) -> bool> CompactionIter<I, B> {
    /// The input stands on an operand of `stripe`, which was counted. Leaves it behind the operands, and makes what becomes of
    /// them the output; false if a filter left nothing of them.
    #[cold]
    pub(super) fn merge_operands(
        &mut self,
        rule: &Arc<MergeRule>,
        sequence: SequenceNumber,
        stripe: usize,
    ) -> Result<bool> {
        let newest = sequence;
        let mut operands = Vec::new();
        if !self.gather(&mut operands, sequence)? {
            return Ok(self.remove_operands(newest, stripe, 0));
        }
        let base = loop {
            let next = match self.input.valid() {
                true => Some(ParsedKey::parse(self.input.key())?),
                false => None,
            };
            let Some(next) =
                next.filter(|next| self.order.compare(user_key(&self.last), next.user_key) == Ordering::Equal)
            else {
                break if self.may_forget() { Base::None } else { Base::Unknown };
            };
            let (sequence, meaning) = (next.sequence, ToJob::of(next.kind));
            if self.stripe(sequence) != Some(stripe) {
                break Base::Unknown;
            }
            if self.is_covered(sequence, Some(stripe)) {
                break Base::None;
            }
            match meaning {
                ToJob::Operand => {
                    self.note_read(sequence)?;
                    if !self.gather(&mut operands, sequence)? {
                        return Ok(self.remove_operands(newest, stripe, operands.len()));
                    }
                }
                // They stay where they are: the merged value hides them.
                ToJob::Value => break Base::Value(self.input.value().to_vec()),
                ToJob::Unresolved(ValueKind::WideColumnEntity) => break Base::Entity(self.input.value().to_vec()),
                ToJob::Tombstone | ToJob::SingleTombstone => break Base::None,
                ToJob::Unresolved(ValueKind::BlobIndex) => {
                    break self.fetched()?.map_or(Base::Unknown, Base::Value);
                }
                ToJob::Unresolved(_) => break Base::Unknown,
            }
        };
        let Some((sequence, _)) = operands.first() else { return Ok(false) };
        let sequence = *sequence;
        let merged = match &base {
            Base::Unknown => combined(rule, user_key(&self.last), &operands).map(|operand| (ValueKind::Merge, operand)),
            Base::None => full(rule, user_key(&self.last), None, &operands).map(|value| (ValueKind::Value, value)),
            Base::Value(base) => {
                full(rule, user_key(&self.last), Some(base), &operands).map(|value| (ValueKind::Value, value))
            }
            Base::Entity(entity) => {
                // One that cannot be read stays, for readers to hear why.
                let default = default_column(entity).ok();
                let merged = default.and_then(|base| full(rule, user_key(&self.last), Some(base), &operands));
                let entity = merged.and_then(|value| with_default_column(entity, &value).ok());
                entity.map(|entity| (ValueKind::WideColumnEntity, entity))
            }
        };
        match merged {
            None => {
                self.is_unmerged = true;
                let entry = |(sequence, operand)| {
                    (internal_key(user_key(&self.last), sequence, ValueKind::Merge as u8), operand)
                };
                self.queue.extend(operands.into_iter().map(entry));
            }
            Some((kind, value)) => {
                self.counts.hidden += operands.len() as u64 - 1;
                let mut number = sequence;
                if kind != ValueKind::Merge {
                    self.hidden_stripe = Some(stripe);
                    self.is_hidden_by_tombstone = false;
                    if stripe == 0 && self.may_forget() && self.is_in_no_range() {
                        number = SequenceNumber::ZERO;
                        self.has_zeroed = true;
                    }
                }
                self.queue.push_back((internal_key(user_key(&self.last), number, kind as u8), value));
            }
        }
        self.output = Output::Queued;
        Ok(true)
    }

    /// Takes the input's current operand, as a filter leaves it, and moves on; false if a filter removed the key.
    fn gather(&mut self, operands: &mut Vec<(SequenceNumber, Vec<u8>)>, sequence: SequenceNumber) -> Result<bool> {
        let operand = self.operand(sequence)?;
        self.input.next()?;
        match operand {
            Operand::Is(bytes) => operands.push((sequence, bytes)),
            Operand::Removed => {}
            Operand::KeyRemoved => return Ok(false),
        }
        Ok(true)
    }
}

/// The value, if the operator has one.
fn full(
    rule: &MergeRule,
    key: &[u8],
    base: Option<&[u8]>,
    newest_first: &[(SequenceNumber, Vec<u8>)],
) -> Option<Vec<u8>> {
    let operands: Vec<&[u8]> = newest_first.iter().rev().map(|(_, operand)| operand.as_slice()).collect();
    rule.full_merge(key, base, &operands).ok().filter(|value| value.len() <= VALUE_BYTES_MAX)
}

/// One operand in place of all, if the operator can make it.
fn combined(rule: &MergeRule, key: &[u8], newest_first: &[(SequenceNumber, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut oldest_first = newest_first.iter().rev().map(|(_, operand)| operand);
    let first = oldest_first.next()?.clone();
    let one = oldest_first.try_fold(first, |older, newer| rule.partial_merge(key, &older, newer));
    one.filter(|one| one.len() <= VALUE_BYTES_MAX)
}
