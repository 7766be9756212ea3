//! The signals that end the driver.

use std::future::Future;
use std::io;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

/// Waits for SIGTERM or SIGINT and returns its name; the second future waits for another one after it. Both are caught
/// as soon as this is called, not only when awaited. Needs a runtime.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn stop_signals() -> io::Result<(impl Future<Output = &'static str> + Send, impl Future<Output = ()> + Send)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (caught, first) = watch::channel((0u64, ""));
    let second = first.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            caught.send_modify(|(count, last)| (*count, *last) = (*count + 1, name));
        }
    });
    let again = async move {
        caught_so_many(second, 2).await;
    };
    Ok((caught_so_many(first, 1), again))
}

async fn caught_so_many(mut caught: watch::Receiver<(u64, &'static str)>, enough: u64) -> &'static str {
    if let Ok(caught) = caught.wait_for(|(count, _)| *count >= enough).await {
        return caught.1;
    }
    // The task that catches them ends only with the runtime.
    std::future::pending().await
}
