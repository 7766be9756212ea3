//! The signals that end the driver.

use std::future::Future;
use std::io;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

/// Returns a future that waits for SIGTERM or SIGINT and returns its name, and a future that waits for a second signal.
/// Signals are caught as soon as this is called, not only when the futures are awaited. Needs a runtime.
///
/// # Errors
///
/// If the handlers cannot be installed.
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
        wait_for_count(second, 2).await;
    };
    Ok((wait_for_count(first, 1), again))
}

async fn wait_for_count(mut caught: watch::Receiver<(u64, &'static str)>, enough: u64) -> &'static str {
    if let Ok(caught) = caught.wait_for(|(count, _)| *count >= enough).await {
        return caught.1;
    }
    // The task that catches signals ends only with the runtime.
    std::future::pending().await
}
