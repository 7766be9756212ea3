//! Tells other calls that a fetch advances: they may wait for the lock of its repository.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::progress::Progress;
use crate::progress::Step;
use crate::store::Heartbeat;
use crate::watch::Watch;

/// How much of a pack makes it worthwhile to wait for the rest, in bytes.
const WORTHWHILE: u64 = 1 << 20;

/// Passes progress on, and beats when the fetch has advanced.
struct Advancing {
    heartbeat: Heartbeat,
    progress: Arc<dyn Progress>,
    /// The last step that was worth a beat.
    last: Mutex<Option<Step>>,
}

/// Returns the same watch, which also tells other calls about the fetch.
pub(super) fn told_by(watch: &Watch, heartbeat: Heartbeat) -> Watch {
    let progress = Arc::clone(&watch.progress);
    Watch { progress: Arc::new(Advancing { heartbeat, progress, last: Mutex::default() }), ..watch.clone() }
}

impl Progress for Advancing {
    fn report(&self, step: &Step) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|last| has_advanced(last, step)) {
            *last = Some(step.clone());
            self.heartbeat.beat();
        }
        drop(last);
        self.progress.report(step);
    }
}

fn has_advanced(last: &Step, step: &Step) -> bool {
    match (last, step) {
        (Step::Fetching { bytes: before, .. }, Step::Fetching { bytes, .. }) => {
            // Fewer bytes are another attempt's.
            *bytes < *before || before.checked_add(WORTHWHILE).is_some_and(|then| *bytes >= then)
        }
        (Step::Queued | Step::Resolving, Step::Queued | Step::Resolving) => false,
        (before, now) => before != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_advances_with_each_mebibyte_and_each_file_but_not_while_it_waits_or_trickles() {
        let fetching = |bytes| Step::Fetching { bytes, objects: bytes, total_objects: 0 };
        let writing = |entries| Step::Writing { entries, total_entries: 9, bytes: 0 };
        for (last, step, expected) in [
            (Step::Queued, Step::Resolving, false),
            (Step::Resolving, Step::Queued, false),
            (Step::Resolving, fetching(0), true),
            (fetching(0), fetching(WORTHWHILE - 1), false),
            (fetching(5), fetching(5 + WORTHWHILE), true),
            (fetching(5), fetching(4), true),
            (fetching(u64::MAX), fetching(u64::MAX), false),
            (fetching(5), writing(0), true),
            (writing(1), writing(1), false),
            (writing(1), writing(2), true),
            (writing(9), Step::Syncing, true),
        ] {
            assert_eq!(has_advanced(&last, &step), expected, "{last:?} {step:?}");
        }
    }
}
