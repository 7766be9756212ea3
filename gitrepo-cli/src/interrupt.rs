//! Ctrl-C and SIGTERM cancel the operation, which then cleans up after itself.

use gitrepo_core::cancel::Cancel;
use gitrepo_frontend::signals;
use nix::sys::signal::Signal;

/// Returns a cancellation that the first SIGINT or SIGTERM triggers. The second signal ends the program at once.
///
/// Must be called before any other thread starts.
pub(crate) fn cancellation() -> Cancel {
    let cancel = Cancel::new();
    let watched = cancel.clone();
    let watching = signals::watch(&[Signal::SIGINT, Signal::SIGTERM], move |_| {
        if watched.check().is_err() {
            std::process::exit(130);
        }
        watched.cancel();
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch for signals");
    }
    cancel
}
