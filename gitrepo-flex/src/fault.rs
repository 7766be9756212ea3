//! Turns a panic, in any thread, into an answer.

use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use gitrepo_core::cancel::Cancel;

/// Where the first panic of this process occurred.
static PLACE: OnceLock<String> = OnceLock::new();

/// From here on the location of a panic is recorded, and the panic triggers `cancel`, because another thread may be
/// waiting for the one that panicked. The message is neither printed nor kept: it may quote the input, which may be
/// secret.
pub(crate) fn watch(cancel: Cancel) {
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Only the first panic matters; it may cause others.
        drop(PLACE.set(place));
        cancel.cancel();
    }));
}

/// Returns where the first panic occurred, if any.
pub(crate) fn place() -> Option<&'static str> {
    PLACE.get().map(String::as_str)
}

/// Runs `work`. Returns `None` if it panicked.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    // State that a panic left incomplete is never used.
    panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_panic_is_kept_without_its_message() {
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
