//! A panic, in whatever thread, becomes an answer.

use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use gitrepo_core::cancel::Cancel;

/// Where the first panic of this process was.
static PLACE: OnceLock<String> = OnceLock::new();

/// From here on a panic is remembered instead of printed, and gives up what `cancel` stands for: another thread may wait
/// for ever for the one that panicked. Only the place is kept. The words may quote what the code stumbled over, and that
/// may be secret.
pub(crate) fn watch(cancel: Cancel) {
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Only the first counts; others follow from it.
        drop(PLACE.set(place));
        cancel.cancel();
    }));
}

/// Where a panic was, if there was one.
pub(crate) fn place() -> Option<&'static str> {
    PLACE.get().map(String::as_str)
}

/// Runs `work`; `None` if it panicked.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    // What it leaves half-done is only thrown away: nothing of it is used afterwards.
    panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_known_by_its_place_and_not_by_its_words() {
        let cancel = Cancel::new();
        watch(cancel.clone());
        assert_eq!(contained(|| 1), Some(1));
        assert!(cancel.check().is_ok());
        let elsewhere = std::thread::spawn(|| panic!("canary"));
        assert!(elsewhere.join().is_err());
        assert_eq!(contained(|| -> u8 { panic!("canary") }), None);
        let place = place().unwrap();
        assert!(place.contains("fault.rs") && !place.contains("canary"), "{place}");
        assert!(cancel.check().is_err());
        drop(panic::take_hook());
    }
}
