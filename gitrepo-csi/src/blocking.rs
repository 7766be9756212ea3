//! Core is synchronous: its short calls run on separate threads.

use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;

use crate::failure::Failure;

/// How long a call that watches its deadline needs to report that it has passed, and why.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Why a call that uses the store may be late.
pub const STORE: &str = "the store did not respond in time: check its disk.";

/// The same for calls that also use a remote. Those watch their deadline, and then say more.
pub const REMOTE_OR_STORE: &str = "neither the remote nor the store responded in time: check the store's disk.";

/// The same for calls that only read their request.
pub const READING: &str = "the request was not read in time: the driver is overloaded.";

/// Runs a short call and waits for it until `deadline`: if the disk hangs no call ends, and the caller gets the text in
/// `late`. The call itself runs to its end, even if nobody waits for it any more.
pub async fn until<T, F>(deadline: Instant, late: &str, call: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let late = |_| Failure::new(Kind::Timeout, format!("{late} Try again"));
    tokio::time::timeout_at((deadline + LAST_WORD).into(), run(call)).await.map_err(late)?
}

/// Runs a call without a deadline.
pub async fn run<T, F>(call: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        // Not final: the call may already have had an effect.
        Err(error) => Err(Failure::new(Kind::Unavailable, format!("the call did not end: {error}; see the log"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn r7_a_call_that_hangs_is_answered_in_time_and_runs_to_its_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (wake, asleep) = mpsc::channel::<()>();
        let (told, done) = mpsc::channel();
        let hung = until(Instant::now(), STORE, move || {
            asleep.recv().unwrap();
            told.send(()).unwrap();
            Ok(())
        });
        let failure = runtime.block_on(hung).unwrap_err();
        assert_eq!(failure.kind, Kind::Timeout);
        wake.send(()).unwrap();
        done.recv().unwrap();
    }

    #[test]
    fn a_call_that_panics_fails_and_not_for_good() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failure = runtime.block_on(run::<(), _>(|| panic!("a fault"))).unwrap_err();
        assert!(!failure.is_final(), "{failure}");
    }
}
