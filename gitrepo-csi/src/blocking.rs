//! Core is synchronous: its short calls run on threads beside the one that serves.

use gitrepo_core::error::Kind;

use crate::failure::Failure;

/// Runs a call that ends soon. It runs to its end, also when nobody waits for it any more.
pub async fn run<T, F>(call: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(Kind::Internal, format!("the call did not end: {error}; see the log"))),
    }
}
