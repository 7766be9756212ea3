//! Ctrl-C and SIGTERM cancel the operation, which then cleans up after itself.

use std::thread;

use gitrepo_core::cancel::Cancel;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

/// A cancellation that the first SIGINT or SIGTERM sets; the second one ends the program at once.
///
/// Must be called before any other thread starts, since threads inherit the signal mask.
pub(crate) fn cancellation() -> Cancel {
    let cancel = Cancel::new();
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if signals.thread_block().is_ok() {
        let watched = cancel.clone();
        let waiting = thread::Builder::new().name("signals".into()).spawn(move || {
            if signals.wait().is_ok() {
                watched.cancel();
            }
            if signals.wait().is_ok() {
                std::process::exit(130);
            }
        });
        if let Err(error) = waiting {
            tracing::warn!(%error, "cannot watch for signals");
            signals.thread_unblock().ok();
        }
    }
    cancel
}
