//! How much work patterns may be.
//!
//! Every file is matched with every line above it. What a remote can send in a few megabytes of each would take days.

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

/// Most steps for one tree. A step is a byte of a path at a part of a pattern; or a line that is passed over, with the first
/// [`COMPARED`] bytes of its literal beginning, and as many more are another one. A tree of 400,000 files with 100 lines that
/// tell files by the ends of their names takes a tenth of it.
pub(super) const MOST_STEPS: u64 = 1 << 30;

/// Bytes that are compared at once, in no more time than any other step takes.
const COMPARED: usize = 64;

/// Steps between two looks at whether the work is still wanted.
const BATCH: u64 = 1 << 22;

/// Why the work is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It takes too many steps.
    TooMuch,
    Interrupted(Interrupted),
}

/// What is left of the steps.
pub(super) struct Effort<'a> {
    left: u64,
    /// How many are left at the next look.
    next: u64,
    cancel: &'a Cancel,
}

impl<'a> Effort<'a> {
    pub(super) fn new(steps: u64, cancel: &'a Cancel) -> Self {
        Self { left: steps, next: steps, cancel }
    }

    /// Takes these steps, before they are done.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(steps).ok_or(Stop::TooMuch)?;
        if self.left <= self.next {
            self.next = self.left.saturating_sub(BATCH);
            self.cancel.check().map_err(Stop::Interrupted)?;
        }
        Ok(())
    }

    /// Takes the steps of a comparison of this many bytes.
    pub(super) fn spend_on_comparison(&mut self, bytes: usize) -> Result<(), Stop> {
        self.spend(1 + bytes / COMPARED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_with_its_steps_or_once_it_is_not_wanted() {
        let cancel = Cancel::new();
        let mut effort = Effort::new(3 * BATCH, &cancel);
        effort.spend(1).unwrap();
        cancel.cancel();
        assert_eq!(effort.spend(1), Ok(()));
        let batch = usize::try_from(BATCH).unwrap();
        assert!(matches!(effort.spend(batch), Err(Stop::Interrupted(_))));
        assert_eq!(effort.spend(2 * batch), Err(Stop::TooMuch));
    }
}
