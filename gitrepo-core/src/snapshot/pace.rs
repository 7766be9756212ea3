//! The pace of reading that is not urgent: at most so many bytes per second, so that the disk stays free for others.

use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

/// How far reading may be ahead of its pace: many small reads need no pause each.
const AHEAD: Duration = Duration::from_millis(50);

/// The longest pause between two checks for cancellation.
const NAP: Duration = Duration::from_millis(200);

/// Bounds the bytes that are read per second. Time in which nothing was read is not made up for.
#[derive(Debug)]
pub(crate) struct Pace {
    /// In bytes per second; `None` for as fast as possible.
    rate: Option<NonZeroU64>,
    /// When what was read so far should have been read.
    due: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, due: Instant::now() }
    }

    /// Pauses after a read of so many bytes.
    pub(crate) fn after(&mut self, bytes: u64, cancel: &Cancel) -> Result<(), Interrupted> {
        let Some(rate) = self.rate else { return Ok(()) };
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.due = self.due.max(Instant::now()) + takes;
        pause_until(self.due, cancel)
    }
}

/// Pauses until about this time.
pub(super) fn pause_until(due: Instant, cancel: &Cancel) -> Result<(), Interrupted> {
    loop {
        let ahead = due.saturating_duration_since(Instant::now());
        if ahead <= AHEAD {
            return Ok(());
        }
        cancel.check()?;
        thread::sleep(ahead.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_the_rate_allows() {
        let (begun, mut pace) = (Instant::now(), Pace::new(NonZeroU64::new(1 << 20)));
        for _ in 0..64 {
            pace.after(8 << 10, &Cancel::new()).unwrap();
        }
        assert!(begun.elapsed() >= Duration::from_millis(500) - AHEAD, "{:?}", begun.elapsed());
        let begun = Instant::now();
        Pace::new(None).after(u64::MAX, &Cancel::new()).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500));
    }

    #[test]
    fn a_pause_ends_when_it_is_cancelled() {
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(Pace::new(NonZeroU64::new(1)).after(1 << 30, &cancel), Err(Interrupted::Cancelled));
    }
}
