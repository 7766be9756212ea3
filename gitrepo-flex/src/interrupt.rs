//! What ends a call from outside: a signal, or time.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

use crate::answer::Answer;
use crate::answer::Channel;

/// Signals that ask a process to end.
const SIGNALS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// How long a call may take to clean up behind itself once it was told to give up.
const GRACE: Duration = Duration::from_secs(60);

/// From here on each of the [`SIGNALS`] sets `cancel`. The call then cleans up and answers.
///
/// Must be called before any other thread starts, since threads inherit the signal mask.
pub(crate) fn watch(cancel: &Cancel) {
    let signals: SigSet = SIGNALS.into_iter().collect();
    if signals.thread_block().is_err() {
        return;
    }
    let watched = cancel.clone();
    let waiting = thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            tracing::warn!(%signal, "told to end");
            watched.cancel();
        }
    });
    if waiting.is_err() {
        // Better ended without an answer than not to be ended.
        signals.thread_unblock().ok();
    }
}

/// Ends the process `limit` and a grace from now, with an answer if there was none. The kubelet waits for ever for a call
/// that hangs, and the volume with it. Whatever is half-done then is as after a SIGKILL: the next call finishes or
/// undoes it.
pub(crate) fn end_after(limit: Duration, channel: &Arc<Channel>) {
    let channel = Arc::clone(channel);
    let watching = thread::Builder::new().name("deadline".into()).spawn(move || {
        thread::sleep(limit.saturating_add(GRACE));
        tracing::error!("the call does not end; ending the process");
        channel.send(&Answer::failure(
            "the call did not end in the time allowed, nor when it was told to give up; it was ended. The log of \
             gitrepo-flex on the node tells how far it came. The kubelet tries again",
        ));
        process::exit(0);
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch the time");
    }
}
