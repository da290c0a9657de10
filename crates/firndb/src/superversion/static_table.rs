//! The lines of code that made pins, and the labels that they gave them, numbered, so that a pin's slot names them by small
//! atomics and no lock.
//!
//! A program has few of them, each at a fixed address: an open-addressed table of write-once cells, keyed by address.
//! Those beyond its size go to a list under a lock. Nothing is ever removed. Threads: any; a known one costs one load.

use std::sync::OnceLock;

use crate::sync::Mutex;

/// Cells; a power of two.
const CELLS: usize = 256;
const _: () = assert!(CELLS.is_power_of_two(), "places wrap with a mask");

/// See the module's text.
#[derive(Debug)]
pub(super) struct StaticTable<T: ?Sized + 'static> {
    cells: Box<[OnceLock<&'static T>]>,
    further: Mutex<Vec<&'static T>>,
}

impl<T: ?Sized> StaticTable<T> {
    pub(super) fn new() -> StaticTable<T> {
        StaticTable { cells: (0..CELLS).map(|_| OnceLock::new()).collect(), further: Mutex::new(Vec::new()) }
    }

    /// The number of `item`, the same for each call.
    #[inline(never)]
    pub(super) fn number_of(&self, item: &'static T) -> u32 {
        // Fibonacci hashing: the addresses are multiples of 8 and close to each other.
        let hash = (std::ptr::from_ref(item).addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let first = (hash >> 32) as usize;
        for step in 0..CELLS {
            let place = first.wrapping_add(step) & (CELLS - 1);
            // Whoever comes second to an empty cell finds what the first one wrote, and goes on if it is another.
            if std::ptr::eq(*self.cells[place].get_or_init(|| item), item) {
                return place as u32;
            }
        }
        self.number_beyond(item)
    }

    #[cold]
    fn number_beyond(&self, item: &'static T) -> u32 {
        let mut further = self.further.lock();
        let index = further.iter().position(|known| std::ptr::eq(*known, item)).unwrap_or_else(|| {
            further.push(item);
            further.len() - 1
        });
        (CELLS + index) as u32
    }

    /// The one with this number.
    pub(super) fn get(&self, number: u32) -> Option<&'static T> {
        let number = number as usize;
        match self.cells.get(number) {
            Some(cell) => cell.get().copied(),
            None => self.further.lock().get(number - CELLS).copied(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::Location;

    use super::*;

    #[test]
    fn every_line_keeps_its_own_number_also_beyond_the_table() {
        let sites: Vec<&'static Location<'static>> =
            (0..2 * CELLS).map(|_| &*Box::leak(Box::new(*Location::caller()))).collect();
        let table = StaticTable::<Location<'static>>::new();
        let numbers: Vec<u32> = sites.iter().map(|site| table.number_of(site)).collect();
        for (site, number) in sites.iter().zip(&numbers) {
            assert_eq!(table.number_of(site), *number);
            assert!(std::ptr::eq(table.get(*number).expect("numbered"), *site));
        }
        assert_eq!(numbers.iter().collect::<std::collections::HashSet<_>>().len(), 2 * CELLS);
        assert!(table.get(2 * CELLS as u32).is_none());
    }

    #[test]
    fn labels_that_begin_at_one_address_are_told_apart_by_their_length() {
        let table = StaticTable::<str>::new();
        let whole = "nightly backup";
        let numbers = [whole, &whole[..7], &whole[8..]].map(|label| table.number_of(label));
        assert_eq!(numbers.map(|number| table.get(number)), [Some(whole), Some("nightly"), Some("backup")]);
    }
}
