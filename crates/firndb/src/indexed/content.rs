//! What a batch and its walks share: the batch, and its operations in order.
//!
//! Flow: [`super::batch`] adds and looks up -> **[`Content`]** -> [`super::index`], one for each family, over the batch's bytes.
//!
//! Invariant: the n-th operation of the batch is the one with number n in its family's index, or among its ranges.

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, SequenceNumber, ValueKind, pack_trailer};
use crate::iter::meaning::ToReader;
use crate::iter::operands::Operands;
use crate::write::batch::WriteBatch;

use super::index::{Entry, FamilyIndex, own_number};

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) batch: WriteBatch,
    pub(super) families: Vec<FamilyIndex>,
}

/// What the batch alone says of a key.
pub(crate) struct Own<'a> {
    /// Over whatever `base` is; the oldest first.
    pub(crate) operands: Operands,
    pub(crate) base: Base<'a>,
}

/// What is below the operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base<'a> {
    Value(&'a [u8]),
    /// An entity, in its bytes.
    Entity(&'a [u8]),
    /// Nothing: the batch deletes what there may be.
    Nothing,
    /// The batch does not say.
    Below,
}

impl Content {
    pub(super) fn family(&self, id: ColumnFamilyId) -> Option<&FamilyIndex> {
        self.families.iter().find(|family| family.id == id)
    }

    fn family_mut(&mut self, id: ColumnFamilyId, order: &KeyOrder) -> &mut FamilyIndex {
        let at = self.families.iter().position(|family| family.id == id).unwrap_or_else(|| {
            self.families.push(FamilyIndex::new(id, order.clone()));
            self.families.len() - 1
        });
        &mut self.families[at]
    }

    /// Notes the operation that was just added to the batch, which had `count` of them before; one that the batch did not take
    /// is none.
    pub(super) fn note(
        &mut self,
        count: u32,
        (id, order): (ColumnFamilyId, &KeyOrder),
        kind: ValueKind,
        key: &[u8],
        value: Option<&[u8]>,
    ) {
        if self.batch.count() == count {
            return;
        }
        // An operation ends with its value, or else its key; before the value is its length.
        let end = self.batch.data_size();
        let value_len = value.map_or(0, <[u8]>::len);
        let value_at = end - value_len;
        let key_at = value_at - value.map_or(0, |value| varint_len(value.len())) - key.len();
        let entry = Entry::new(count, kind, (key_at, key.len()), (value_at, value_len));
        match kind {
            ValueKind::RangeDeletion => {
                self.family_mut(id, order).delete_range(count, key, value.unwrap_or_default());
            }
            _ => {
                self.family_mut(id, order);
                let (batch, families) = (&self.batch, &mut self.families);
                let family = families.iter_mut().find(|family| family.id == id);
                family.into_iter().for_each(|family| family.insert(batch.as_bytes(), entry));
            }
        }
    }

    pub(super) fn rollback_to_save_point(&mut self) -> Result<()> {
        if let Some((count, operations)) = self.batch.since_save_point() {
            let bytes = self.batch.as_bytes();
            for (number, operation) in (count..).zip(operations) {
                let operation = operation?;
                let family = self.families.iter_mut().find(|family| family.id == operation.family);
                if let Some(family) = family.filter(|_| operation.kind != ValueKind::RangeDeletion) {
                    family.remove(bytes, operation.key, pack_trailer(own_number(number), operation.kind as u8));
                }
            }
            self.families.iter_mut().for_each(|family| family.forget_ranges_from(count));
        }
        self.batch.rollback_to_save_point()
    }

    pub(super) fn clear(&mut self) {
        self.batch.clear();
        self.families.iter_mut().for_each(FamilyIndex::clear);
    }

    /// What the batch says of a key.
    ///
    /// # Errors
    /// `Limit`: more operands than can be merged at once.
    pub(super) fn lookup(&self, id: ColumnFamilyId, key: &[u8]) -> Result<Own<'_>> {
        let mut own = Own { operands: Operands::default(), base: Base::Below };
        let Some(family) = self.family(id) else { return Ok(own) };
        let bytes = self.batch.as_bytes();
        let cover = family.tombstones().map_or(SequenceNumber::ZERO, |all| all.covering(key, SequenceNumber::MAX));
        let mut place = family.lower_bound(bytes, key, u64::MAX);
        while let Some(entry) = family.get(place)
            && family.order().compare(entry.key(bytes), key).is_eq()
            && entry.sequence() > cover
        {
            match entry.kind().map(ToReader::of) {
                Some(ToReader::Value) => {
                    own.base = Base::Value(entry.value(bytes));
                    break;
                }
                Some(ToReader::Unresolved(ValueKind::WideColumnEntity)) => {
                    own.base = Base::Entity(entry.value(bytes));
                    break;
                }
                Some(ToReader::Operand) => own.operands.push(entry.value(bytes))?,
                _ => {
                    own.base = Base::Nothing;
                    break;
                }
            }
            place = family.after(place);
        }
        if own.base == Base::Below && cover > SequenceNumber::ZERO {
            own.base = Base::Nothing;
        }
        own.operands.reverse();
        Ok(own)
    }
}

/// Bytes of a length as a varint.
fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::coding::put_varint32;

    #[test]
    fn lengths_have_the_bytes_that_are_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, (1 << 28) - 1, 1 << 28, 1 << 30] {
            let mut out = Vec::new();
            put_varint32(&mut out, value);
            assert_eq!(varint_len(value as usize), out.len(), "{value}");
        }
    }
}
