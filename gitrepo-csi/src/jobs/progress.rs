//! How far a job is, in words.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;

/// The last that a job told.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<Step>>);

impl Progress for Seen {
    fn report(&self, step: &Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(step.clone());
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => f.write_str("the publish goes on"),
            Some(Step::Resolving) => f.write_str("the remote has not yet said where the revision stands"),
            Some(Step::Waiting) => f.write_str("waiting for a turn, or for another fetch of the repository"),
            Some(Step::Fetching { bytes, objects, total_objects }) => {
                write!(f, "received {}", Bytes(*bytes))?;
                match estimate(*bytes, *objects, *total_objects) {
                    Some(total) => write!(f, " of about {}", Bytes(total)),
                    None => Ok(()),
                }
            }
            Some(Step::Writing { entries, total_entries, .. }) => {
                write!(f, "wrote {entries} of {total_entries} entries")
            }
            Some(Step::Syncing) => f.write_str("everything is written and goes to the disk"),
        }
    }
}

/// What a pack comes to, if the rest of its objects are like those that came. Of the first few nothing can be told.
fn estimate(bytes: u64, objects: u64, total_objects: u64) -> Option<u64> {
    if objects < 16 || objects >= total_objects {
        return None;
    }
    u64::try_from(u128::from(bytes) * u128::from(total_objects) / u128::from(objects)).ok()
}

/// A number of bytes for people.
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

    #[test]
    fn progress_is_told_in_words() {
        let seen = Seen::default();
        assert_eq!(seen.to_string(), "the publish goes on");
        for (bytes, objects, total_objects, words) in [
            (0, 0, 0, "received 0 bytes"),
            (999, 1, 3_000, "received 999 bytes"),
            (412_345_678, 1_000, 3_200, "received 412 MB of about 1.3 GB"),
            (1_234_567, 3_000, 3_000, "received 1.2 MB"),
            (u64::MAX, 100, 300, "received 18446744 TB"),
        ] {
            seen.report(&Step::Fetching { bytes, objects, total_objects });
            assert_eq!(seen.to_string(), words);
        }
        seen.report(&Step::Writing { entries: 3, total_entries: 10, bytes: 5 });
        assert_eq!(seen.to_string(), "wrote 3 of 10 entries");
    }
}
