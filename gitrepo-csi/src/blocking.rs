//! Core is synchronous: its short calls run on threads beside the one that serves.

use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;

use crate::failure::Failure;

/// What a call that watches its deadline needs to say that it has passed, and why nothing came of it.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Why a call that works on the store may not have ended in time.
pub const STORE: &str = "the store does not answer: is its disk at work?";

/// The same of one that asks a remote, too. It watches its deadline, and then says more.
pub const REMOTE_OR_STORE: &str = "neither the remote nor the store answered in time: is the store's disk at work?";

/// The same of one that reads its request alone.
pub const READING: &str = "the request was not read in time: the driver has too much to do.";

/// Runs a call that ends soon, and waits for it until `deadline`: where a disk hangs no call ends, and the caller is to
/// hear that, in the words of `late`. The call runs to its end, also when nobody waits for it any more.
pub async fn until<T, F>(deadline: Instant, late: &str, call: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let late = |_| Failure::new(Kind::Timeout, format!("{late} Try again"));
    tokio::time::timeout_at((deadline + LAST_WORD).into(), run(call)).await.map_err(late)?
}

/// Runs a call for which nobody waits in particular.
pub async fn run<T, F>(call: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        // Not final: it is not known what the call had done.
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
