//! Ends a call on a signal or a timeout.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_frontend::signals;
use nix::sys::signal::Signal;

use crate::answer::Answer;
use crate::answer::Channel;

/// Signals that ask a process to terminate.
const SIGNALS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// How long a call may take to clean up after it is cancelled.
const GRACE: Duration = Duration::from_secs(60);

/// From here on each of the [`SIGNALS`] triggers `cancel`. The call then cleans up and answers.
///
/// Must be called before any other thread starts.
pub(crate) fn watch(cancel: &Cancel) {
    let watched = cancel.clone();
    let watching = signals::watch(&SIGNALS, move |signal| {
        tracing::warn!(%signal, "a signal ends the call");
        watched.cancel();
    });
    // If this failed, signals end the process without an answer. That is better than to ignore them.
    drop(watching);
}

/// Ends the process after `limit` and a grace period. If the call has not answered by then, answers first. Otherwise
/// the kubelet would wait for ever for a call that hangs, and block the volume. The process ends as after a SIGKILL:
/// the next call completes or undoes its work.
pub(crate) fn end_after(limit: Duration, channel: &Arc<Channel>) {
    let channel = Arc::clone(channel);
    let watching = thread::Builder::new().name("deadline".into()).spawn(move || {
        thread::sleep(limit.saturating_add(GRACE));
        tracing::error!("the call did not end in time; ending the process");
        channel.send(&Answer::failure(
            "the call ended neither in its time nor when it was cancelled, so its process was ended. The log of \
             gitrepo-flex on the node says how far it was. The kubelet tries again",
        ));
        process::exit(0);
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "cannot limit the time of the call");
    }
}
