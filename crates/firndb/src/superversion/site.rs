//! The lines of code that made pins, numbered, so that a pin's slot names its line by one small atomic and no lock.
//!
//! A program has few such lines, each at a fixed address: an open-addressed table of write-once cells, keyed by address.
//! Lines beyond its size go to a list under a lock. Nothing is ever removed. Threads: any; a known line costs one load.

use std::panic::Location;
use std::sync::OnceLock;

use crate::sync::Mutex;

/// Cells; a power of two.
const CELLS: usize = 256;
const _: () = assert!(CELLS.is_power_of_two(), "places wrap with a mask");

/// See the module's text.
#[derive(Debug)]
pub(super) struct SiteTable {
    cells: Box<[OnceLock<&'static Location<'static>>]>,
    further: Mutex<Vec<&'static Location<'static>>>,
}

impl SiteTable {
    pub(super) fn new() -> SiteTable {
        SiteTable { cells: (0..CELLS).map(|_| OnceLock::new()).collect(), further: Mutex::new(Vec::new()) }
    }

    /// The number of `site`, the same for each call.
    #[inline(never)]
    pub(super) fn number_of(&self, site: &'static Location<'static>) -> u32 {
        // Fibonacci hashing: the addresses are multiples of 8 and close to each other.
        let hash = (std::ptr::from_ref(site).addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let first = (hash >> 32) as usize;
        for step in 0..CELLS {
            let place = first.wrapping_add(step) & (CELLS - 1);
            // Whoever comes second to an empty cell finds what the first one wrote, and goes on if it is another line.
            if std::ptr::eq(*self.cells[place].get_or_init(|| site), site) {
                return place as u32;
            }
        }
        self.number_beyond(site)
    }

    #[cold]
    fn number_beyond(&self, site: &'static Location<'static>) -> u32 {
        let mut further = self.further.lock();
        let index = further.iter().position(|known| std::ptr::eq(*known, site)).unwrap_or_else(|| {
            further.push(site);
            further.len() - 1
        });
        (CELLS + index) as u32
    }

    /// The line with this number.
    pub(super) fn get(&self, number: u32) -> Option<&'static Location<'static>> {
        let number = number as usize;
        match self.cells.get(number) {
            Some(cell) => cell.get().copied(),
            None => self.further.lock().get(number - CELLS).copied(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_line_keeps_its_own_number_also_beyond_the_table() {
        let sites: Vec<&'static Location<'static>> =
            (0..2 * CELLS).map(|_| &*Box::leak(Box::new(*Location::caller()))).collect();
        let table = SiteTable::new();
        let numbers: Vec<u32> = sites.iter().map(|site| table.number_of(site)).collect();
        for (site, number) in sites.iter().zip(&numbers) {
            assert_eq!(table.number_of(site), *number);
            assert!(std::ptr::eq(table.get(*number).expect("numbered"), *site));
        }
        assert_eq!(numbers.iter().collect::<std::collections::HashSet<_>>().len(), 2 * CELLS);
        assert!(table.get(2 * CELLS as u32).is_none());
    }
}
