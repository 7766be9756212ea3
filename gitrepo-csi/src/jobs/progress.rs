//! The progress of a job: describes it, and estimates when the job ends.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;
use gitrepo_core::spec::RepositoryUrl;

/// After how long without data a pack counts as stalled.
const STALLED: Duration = Duration::from_secs(5);

/// The share of the remaining time that an estimate may use. Estimates may be wrong, and the tree must still be
/// written.
const USABLE: (u32, u32) = (3, 4);

/// The last progress that a job reported.
#[derive(Debug)]
pub(super) struct JobProgress {
    /// The remote that the job talks to.
    remote: String,
    /// When the job began.
    begun: Instant,
    reported: Mutex<Reported>,
}

#[derive(Debug)]
struct Reported {
    step: Option<Step>,
    /// When the job reached this step, or last made progress in it.
    at: Instant,
    /// When the first bytes of the pack arrived, and the number of objects by then.
    began: Option<(Instant, u64)>,
}

impl JobProgress {
    /// Returns the progress of a new job for this repository.
    pub(super) fn of(repository: &RepositoryUrl) -> Self {
        let remote = match (repository.host(), repository.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => "the remote".to_owned(),
        };
        let now = Instant::now();
        Self { remote, begun: now, reported: Mutex::new(Reported { step: None, at: now, began: None }) }
    }

    /// Returns the job's age.
    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the job will probably end within this time.
    pub(super) fn ends_within(&self, left: Duration) -> bool {
        self.reported().ends_within(left, Instant::now())
    }

    /// Describes what is lost if the job is cancelled.
    pub(super) fn lost(&self) -> &'static str {
        match self.reported().step {
            Some(Step::Fetching { bytes, .. }) if bytes > 0 => {
                "a pack is kept only if it was received completely, so the received part is lost"
            }
            Some(Step::Writing { .. } | Step::Syncing) => "the received pack is kept, and is not fetched again",
            _ => "no part of a pack was received",
        }
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for JobProgress {
    fn report(&self, step: &Step) {
        let mut reported = self.reported();
        if reported.step.as_ref() != Some(step) {
            let at = Instant::now();
            let began = match *step {
                Step::Fetching { bytes, objects, .. } if bytes > 0 => reported.began.or(Some((at, objects))),
                _ => None,
            };
            *reported = Reported { step: Some(step.clone()), at, began };
        }
    }
}

impl fmt::Display for JobProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reported = self.reported();
        reported.describe(&self.remote, reported.at.elapsed(), f)
    }
}

impl Reported {
    fn ends_within(&self, left: Duration, now: Instant) -> bool {
        match self.step {
            Some(Step::Writing { .. } | Step::Syncing) => true,
            Some(Step::Fetching { objects, total_objects, .. }) if total_objects > 0 && objects >= total_objects => {
                true
            }
            Some(Step::Fetching { objects, total_objects, .. }) => {
                let Some((began, objects_then)) = self.began else { return false };
                let came = objects.saturating_sub(objects_then);
                if came == 0 || total_objects == 0 || now.saturating_duration_since(self.at) >= STALLED {
                    return false;
                }
                let rest = (total_objects - objects) as f64 / came as f64;
                let needed = now.saturating_duration_since(began).as_secs_f64() * rest;
                let (of, whole) = USABLE;
                needed <= (left * of / whole).as_secs_f64()
            }
            _ => false,
        }
    }

    fn describe(&self, remote: &str, since: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = since.as_secs();
        match &self.step {
            None => write!(f, "waiting for the store, for {seconds} s: another process may be working on this volume"),
            Some(Step::Resolving) => {
                write!(f, "waiting for {remote}, for {seconds} s: it has not yet said which commit the revision names")
            }
            Some(Step::Queued) => {
                write!(f, "waiting for a free session, for {seconds} s: all allowed sessions with remotes are in use")
            }
            Some(Step::Waiting) => {
                write!(f, "waiting for another volume's fetch of the same repository, for {seconds} s")
            }
            Some(Step::Fetching { bytes: 0, .. }) => {
                write!(f, "waiting for {remote}, for {seconds} s: it has sent nothing of the pack yet")
            }
            Some(Step::Fetching { bytes, objects, total_objects }) => {
                write!(f, "received {}", Bytes(*bytes))?;
                if let Some(total) = estimate(*bytes, *objects, *total_objects) {
                    write!(f, " of about {}", Bytes(total))?;
                }
                match since >= STALLED {
                    true => write!(f, " from {remote}, and nothing more for {seconds} s"),
                    false => Ok(()),
                }
            }
            Some(Step::Writing { entries, total_entries, .. }) => {
                write!(f, "wrote {entries} of {total_entries} entries")
            }
            Some(Step::Syncing) => f.write_str("wrote all entries, and is syncing them to the disk"),
            Some(Step::Verifying { bytes }) => write!(f, "verified {} of the store", Bytes(*bytes)),
        }
    }
}

/// Estimates the size of a pack in bytes from the received objects. `None` if these are too few.
fn estimate(bytes: u64, objects: u64, total_objects: u64) -> Option<u64> {
    if objects < 16 || objects >= total_objects {
        return None;
    }
    u64::try_from(u128::from(bytes) * u128::from(total_objects) / u128::from(objects)).ok()
}

/// A number of bytes, displayed with a unit.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
        let (mut unit, mut scale) = ("bytes", 1);
        for larger in UNITS {
            if self.0 < scale * 1000 {
                break;
            }
            (unit, scale) = (larger, scale * 1000);
        }
        let whole = self.0 / scale;
        match self.0 % scale * 10 / scale {
            tenth if scale > 1 && whole < 10 => write!(f, "{whole}.{tenth} {unit}"),
            _ => write!(f, "{whole} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The description of a step that was reached this long ago.
    struct Words(Reported, Duration);

    impl fmt::Display for Words {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.describe("git.example.com:443", self.1, f)
        }
    }

    fn words(step: Option<Step>, seconds: u64) -> String {
        Words(Reported { step, at: Instant::now(), began: None }, Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn progress_is_described() {
        for (bytes, objects, total_objects, expected) in [
            (999, 1, 3_000, "received 999 bytes"),
            (412_345_678, 1_000, 3_200, "received 412 MB of about 1.3 GB"),
            (1_234_567, 3_000, 3_000, "received 1.2 MB"),
            (u64::MAX, 100, 300, "received 18446744 TB"),
        ] {
            assert_eq!(words(Some(Step::Fetching { bytes, objects, total_objects }), 4), expected);
        }
        let step = Step::Fetching { bytes: 412_345_678, objects: 1_000, total_objects: 3_200 };
        let stalled = "received 412 MB of about 1.3 GB from git.example.com:443, and nothing more for 20 s";
        assert_eq!(words(Some(step), 20), stalled);
        let step = Step::Writing { entries: 3, total_entries: 10, bytes: 5 };
        assert_eq!(words(Some(step), 20), "wrote 3 of 10 entries");
    }

    #[test]
    fn a_wait_is_described_with_its_reason_and_duration() {
        let nothing = Step::Fetching { bytes: 0, objects: 0, total_objects: 0 };
        for (step, expected) in [
            (None, "waiting for the store, for 12 s"),
            (Some(Step::Resolving), "waiting for git.example.com:443, for 12 s: it has not yet said"),
            (Some(Step::Queued), "waiting for a free session, for 12 s"),
            (Some(Step::Waiting), "waiting for another volume's fetch of the same repository, for 12 s"),
            (Some(nothing), "waiting for git.example.com:443, for 12 s: it has sent nothing"),
        ] {
            let words = words(step, 12);
            assert!(words.starts_with(expected), "{words}");
        }
    }

    #[test]
    fn the_remote_is_named_and_a_repeated_step_is_no_progress() {
        for (url, remote) in [
            ("https://git.example.com/a.git", "git.example.com:443"),
            ("https://git.example.com:8443/a.git", "git.example.com:8443"),
            ("git@git.example.com:a.git", "git.example.com:22"),
            ("file:///srv/a.git", "the remote"),
        ] {
            let progress = JobProgress::of(&RepositoryUrl::parse(url).unwrap());
            assert_eq!(progress.remote, remote);
            progress.report(&Step::Resolving);
            let at = progress.reported().at;
            progress.report(&Step::Resolving);
            assert_eq!(progress.reported().at, at, "a repeated step");
        }
    }

    #[test]
    fn a_fetch_ends_in_time_if_its_objects_arrive_fast_enough() {
        let began = Instant::now();
        let now = began + Duration::from_secs(20);
        let ends = |step: Step, at: Instant, left: u64| {
            let reported = Reported { step: Some(step), at, began: Some((began, 0)) };
            reported.ends_within(Duration::from_secs(left), now)
        };
        // 100 objects a second: the last 1000 need 10 s.
        let fetching = |objects, total_objects| Step::Fetching { bytes: 1 << 20, objects, total_objects };
        assert!(ends(fetching(2_000, 3_000), now, 14));
        assert!(!ends(fetching(2_000, 3_000), now, 13), "the tree must be written, too");
        assert!(!ends(fetching(2_000, 3_000), now - STALLED, 100), "the pack has stalled");
        assert!(!ends(fetching(2_000, 0), now, 100) && !ends(fetching(0, 3_000), now, 100), "there is no rate");
        assert!(ends(fetching(3_000, 3_000), now - STALLED, 1), "only its deltas are left");
        for step in [Step::Syncing, Step::Writing { entries: 1, total_entries: 1_000, bytes: 0 }] {
            assert!(ends(step, now - STALLED, 1));
        }
        for step in [Step::Resolving, Step::Queued, Step::Waiting] {
            assert!(!ends(step, now, 100));
        }
    }

    #[test]
    fn a_stop_loses_only_an_incomplete_pack() {
        let progress = JobProgress::of(&RepositoryUrl::parse("https://git.example.com/a.git").unwrap());
        assert!(progress.lost().starts_with("no part"));
        progress.report(&Step::Fetching { bytes: 1, objects: 1, total_objects: 2 });
        assert!(progress.lost().ends_with("is lost"));
        progress.report(&Step::Writing { entries: 0, total_entries: 1, bytes: 0 });
        assert!(progress.lost().contains("is kept"));
    }
}
