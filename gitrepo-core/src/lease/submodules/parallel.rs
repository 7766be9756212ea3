//! A call for each submodule, a few at once.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use super::LeaseError;

/// How many submodules are asked for at once. Each call has its own place at the gateway, and holds none while it waits.
pub(super) const AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Runs a call for each item, a few at once. Returns the results in the order of the items.
pub(super) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    call: impl Fn(&I) -> Result<T, LeaseError> + Sync,
) -> Vec<Result<T, LeaseError>> {
    let threads = AT_ONCE.get().min(items.len());
    if threads < 2 {
        return items.iter().map(call).collect();
    }
    let next = Mutex::new(0..items.len());
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let lock = |range: &Mutex<std::ops::Range<usize>>| range.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(at) = lock(&next) {
            let result = call(&items[at]);
            let is_failure = result.is_err();
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
            if is_failure {
                // Those that are not begun yet would be of no use.
                next.lock().unwrap_or_else(PoisonError::into_inner).start = items.len();
            }
        }
    };
    thread::scope(|scope| {
        // If a thread cannot be started, the others do its work.
        for _ in 1..threads {
            drop(thread::Builder::new().name("submodules".to_owned()).spawn_scoped(scope, work));
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
