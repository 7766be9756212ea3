//! The deadline of a call, and work that must meet it.
//!
//! Core is synchronous, so its short calls run on separate threads.

use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use tonic::metadata::MetadataMap;

use crate::failure::CallFailure;
use crate::wipe;

/// The longest that a call may take. The kubelet gives up after two minutes (`csiTimeout`), and would miss the progress
/// in a later answer.
pub const LONGEST: Duration = Duration::from_secs(110);

/// How much of the caller's timeout to reserve for sending the answer.
const MARGIN: Duration = Duration::from_secs(5);

/// Extra time for work that watches its deadline, to report why it did not meet it.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The message for work that uses the store and misses its deadline.
pub const STORE: &str = "the store did not respond in time: check its disk.";

/// The message for work that also uses a remote. Such work usually watches its deadline and gives a better message.
pub const REMOTE_OR_STORE: &str = "neither the remote nor the store responded in time: check the store's disk.";

/// The message for work that only reads its request.
pub const READING: &str = "the request was not read in time: the driver is overloaded.";

/// Returns the deadline for answering a call that just arrived.
pub fn of(metadata: &MetadataMap) -> Instant {
    let given = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    Instant::now() + patience(given)
}

/// Returns the time left.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Returns a cancellation that the deadline triggers.
pub fn cancel(deadline: Instant) -> Cancel {
    Cancel::new().within(left(deadline))
}

/// Runs short work on a thread, and waits for it until `deadline`. If the work hangs, for instance with the disk, fails
/// with the message `late`. The work runs to its end even if nobody waits for it any more.
pub async fn keep<T, F>(deadline: Instant, late: &str, work: F) -> Result<T, CallFailure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, CallFailure> + Send + 'static,
{
    let late = |_| CallFailure::new(Kind::Timeout, format!("{late} Try again"));
    tokio::time::timeout_at((deadline + LAST_WORD).into(), on_a_thread(work)).await.map_err(late)?
}

/// Runs work on a thread, and waits for it without a deadline. The work leaves no secret on the thread's stack.
pub async fn on_a_thread<T, F>(work: F) -> Result<T, CallFailure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, CallFailure> + Send + 'static,
{
    match tokio::task::spawn_blocking(|| wipe::after(work)).await {
        Ok(result) => result,
        // The failure is not final: the work may already have had an effect.
        Err(error) => Err(CallFailure::new(Kind::Unavailable, format!("the call did not end: {error}; see the log"))),
    }
}

/// Ends work on another thread when nobody waits for it any more: dropped, it cancels.
pub struct EndsWith(pub Cancel);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Returns how long to work on a call with this timeout. For a short timeout, a tenth is margin enough.
fn patience(given: Option<Duration>) -> Duration {
    given.map_or(LONGEST, |given| (given - MARGIN.min(given / 10)).min(LONGEST))
}

/// Parses the value of `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_timeout_of_grpc_is_parsed_and_an_invalid_one_ignored() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("119S", Some(Duration::from_secs(119))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1ä", None),
            ("ä", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_answer_comes_before_the_caller_gives_up() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(None), LONGEST);
        assert_eq!(patience(Some(Duration::from_millis(119_800))), LONGEST, "the kubelet");
        assert_eq!(patience(Some(seconds(60))), seconds(55));
        assert_eq!(patience(Some(seconds(1))), Duration::from_millis(900));
        assert_eq!(patience(Some(seconds(99_999_999 * 3600))), LONGEST);
        assert_eq!(patience(Some(Duration::ZERO)), Duration::ZERO);
    }

    #[tokio::test]
    async fn r7_a_call_that_hangs_is_answered_in_time_and_runs_to_its_end() {
        let (wake, asleep) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        let hung = keep(Instant::now(), STORE, move || {
            asleep.recv().unwrap();
            ended.send(()).unwrap();
            Ok(())
        });
        assert_eq!(hung.await.unwrap_err().kind, Kind::Timeout);
        wake.send(()).unwrap();
        end.recv().unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_that_is_not_final() {
        let failure = on_a_thread::<(), _>(|| panic!("a fault")).await.unwrap_err();
        assert!(!failure.is_final(), "{failure}");
    }
}
