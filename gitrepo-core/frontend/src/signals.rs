//! Signals that ask a program to end.

use std::io;
use std::thread;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

/// Calls `act` for each of these signals, on a thread of its own, instead of the signal's default action.
///
/// Must be called before any other thread starts, since threads inherit the signal mask.
///
/// # Errors
/// If the thread cannot be started. Then the signals have their default actions.
pub fn watch(signals: &[Signal], mut act: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let signals: SigSet = signals.iter().copied().collect();
    signals.thread_block()?;
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            act(signal);
        }
    });
    if waiting.is_err() {
        signals.thread_unblock()?;
    }
    waiting.map(drop)
}
