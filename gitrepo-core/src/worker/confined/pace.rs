//! Whether a remote keeps the minimum average rate.
//!
//! Only the time counts in which the worker waits for the remote. Each byte makes up for some of it.

use std::time::Duration;
use std::time::Instant;

/// How many times as long as `limits.stall` a server may take until it has begun to send: it may work on a large pack,
/// or have told the worker to ask again later.
const PREPARATION: u32 = 5;

/// The pace of one request.
#[derive(Debug)]
pub(super) struct Pace {
    /// In bytes per second; 0 for any.
    minimum_rate: u64,
    window: Duration,
    last: Observed,
    received: u64,
    /// Waiting time that no byte has made up for.
    behind: Duration,
}

/// What there is to see of a worker and its connections at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) at: Instant,
    /// Bytes to and from the remote since the worker started.
    pub(super) bytes: u64,
    /// Processor time of the worker since it started.
    pub(super) processor: Duration,
    /// Whether there is a connection. Without one, nobody waits for the remote.
    pub(super) is_connected: bool,
    /// Whether the worker has not taken all that the remote has sent.
    pub(super) is_worker_behind: bool,
}

impl Pace {
    /// Begins a request. The rate is an average over the time `window`.
    pub(super) fn new(minimum_rate: u64, window: Duration, now: Observed) -> Self {
        Self { minimum_rate, window, last: now, received: 0, behind: Duration::ZERO }
    }

    /// Whether the remote has been too slow up to this moment.
    pub(super) fn is_too_slow(&mut self, now: Observed) -> bool {
        if self.minimum_rate == 0 {
            return false;
        }
        let elapsed = now.at.saturating_duration_since(self.last.at);
        let waited = match now.is_connected && !now.is_worker_behind {
            true => elapsed.saturating_sub(now.processor.saturating_sub(self.last.processor)),
            false => Duration::ZERO,
        };
        let bytes = now.bytes.saturating_sub(self.last.bytes);
        self.received += bytes;
        self.behind = (self.behind + waited).saturating_sub(self.worth(bytes));
        self.last = now;
        let has_begun = self.worth(self.received) >= self.window;
        let allowed = if has_begun { self.window } else { self.window.saturating_mul(PREPARATION) };
        // A remote that sends nothing is not slow but silent, and soon given up for that.
        now.is_connected && bytes > 0 && self.behind > allowed
    }

    /// How long these bytes take at the minimum rate.
    fn worth(&self, bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1000) / self.minimum_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    /// A request at 1 KiB/s over a minute, and a clock.
    struct Remote {
        pace: Pace,
        now: Observed,
    }

    impl Remote {
        fn new() -> Self {
            let (at, processor) = (Instant::now(), Duration::ZERO);
            let now = Observed { at, bytes: 0, processor, is_connected: true, is_worker_behind: false };
            Self { pace: Pace::new(1024, WINDOW, now), now }
        }

        /// Lets time pass at this rate, in bytes per second, for up to an hour. Returns after how many seconds it was
        /// too slow.
        fn seconds_at(&mut self, rate: u64, mut each_second: impl FnMut(&mut Observed)) -> Option<u64> {
            (1..=3600).find(|_| {
                self.now.at += Duration::from_secs(1);
                self.now.bytes += rate;
                each_second(&mut self.now);
                self.pace.is_too_slow(self.now)
            })
        }
    }

    #[test]
    fn s26_a_remote_that_trickles_is_too_slow_after_a_minute_and_one_that_prepares_after_five() {
        let mut remote = Remote::new();
        assert_eq!(remote.seconds_at(1, |_| {}), Some(301));
        let mut remote = Remote::new();
        remote.now.bytes += 10 << 20;
        assert_eq!(remote.seconds_at(1, |_| {}), Some(62), "what came quickly is no credit");
    }

    #[test]
    fn a_remote_that_keeps_the_rate_on_average_is_never_too_slow() {
        let mut remote = Remote::new();
        assert_eq!(remote.seconds_at(1024, |_| {}), None);
        let mut second = 0;
        let bursts = |now: &mut Observed| {
            second += 1;
            now.bytes += if second % 50 == 0 { 50 << 10 } else { 0 };
        };
        assert_eq!(remote.seconds_at(0, bursts), None);
    }

    #[test]
    fn a_remote_that_sends_nothing_is_not_slow() {
        assert_eq!(Remote::new().seconds_at(0, |_| {}), None);
    }

    #[test]
    fn a_worker_that_computes_or_takes_nothing_does_not_make_its_remote_slow() {
        let mut remote = Remote::new();
        assert_eq!(remote.seconds_at(1, |now| now.processor += Duration::from_secs(1)), None);
        assert_eq!(remote.seconds_at(1, |now| now.is_worker_behind = true), None);
    }

    #[test]
    fn time_without_a_connection_does_not_count() {
        let mut remote = Remote::new();
        assert_eq!(remote.seconds_at(0, |now| now.is_connected = false), None);
        assert_eq!(remote.seconds_at(1, |now| now.is_connected = true), Some(301));
    }

    #[test]
    fn without_a_minimum_every_remote_is_quick_enough() {
        let mut remote = Remote::new();
        remote.pace.minimum_rate = 0;
        assert_eq!(remote.seconds_at(1, |_| {}), None);
    }
}
