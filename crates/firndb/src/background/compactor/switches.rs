//! What calls running compactions off while the database stays open: those that run by themselves, and those by hand.

use crate::clock::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

#[derive(Debug)]
struct ByHand {
    /// So many callers want none.
    disabled: usize,
    token: CancelToken,
}

/// One token for each sort of job, made anew when jobs may run again. Each is called off with the database's.
#[derive(Debug)]
pub(super) struct Switches {
    whole: CancelToken,
    automatic: Mutex<CancelToken>,
    by_hand: Mutex<ByHand>,
}

impl Switches {
    pub(super) fn new(whole: &CancelToken) -> Switches {
        let part = || CancelToken::part_of(&[whole]);
        let by_hand = ByHand { disabled: 0, token: part() };
        Switches { whole: whole.clone(), automatic: Mutex::new(part()), by_hand: Mutex::new(by_hand) }
    }

    pub(super) fn automatic(&self) -> CancelToken {
        self.automatic.lock().clone()
    }

    pub(super) fn cancel_automatic(&self) {
        self.automatic.lock().cancel();
    }

    /// Jobs that begin from now on are not called off; false if none was.
    pub(super) fn renew_automatic(&self) -> bool {
        let mut token = self.automatic.lock();
        let was_cancelled = token.check().is_err();
        if was_cancelled {
            *token = CancelToken::part_of(&[&self.whole]);
        }
        was_cancelled
    }

    /// # Errors
    /// `Cancelled` while compactions by hand are disabled.
    pub(super) fn by_hand(&self) -> Result<CancelToken> {
        let by_hand = self.by_hand.lock();
        match by_hand.disabled {
            0 => Ok(by_hand.token.clone()),
            _ => Err(Error::new(ErrorKind::Cancelled, "compactions by hand are disabled")),
        }
    }

    pub(super) fn disable_by_hand(&self) {
        let mut by_hand = self.by_hand.lock();
        by_hand.disabled += 1;
        by_hand.token.cancel();
    }

    pub(super) fn enable_by_hand(&self) {
        let mut by_hand = self.by_hand.lock();
        by_hand.disabled = by_hand.disabled.saturating_sub(1);
        if by_hand.disabled == 0 {
            by_hand.token = CancelToken::part_of(&[&self.whole]);
        }
    }
}
