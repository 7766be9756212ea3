//! One check and its result, within a deadline.

use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use gitrepo_core::error::Kind;
use serde::Serialize;

/// The result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// What was checked.
    pub(super) name: &'static str,
    /// The result.
    pub(super) status: Status,
    /// What was found.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    /// The kind of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
}

/// Whether something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Something works worse than it could, or not here.
    Warn,
    /// Something does not work.
    Fail,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), advice: None, kind: None }
    }

    pub(super) fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, status: Status::Warn, detail: detail.into(), advice, kind: None }
    }

    pub(super) fn fail(name: &'static str, kind: Kind, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, status: Status::Fail, detail: detail.into(), advice, kind: Some(kind) }
    }
}

/// Runs a check on a thread of its own, since a system call on a dead filesystem or server may never return. The thread
/// then stays behind until the program ends.
pub(super) fn within<T: Send + 'static>(
    name: &'static str,
    limit: Duration,
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Check> {
    let (answer, answered) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("doctor".to_owned()).spawn(move || answer.send(check()).is_ok());
    if let Err(error) = spawned {
        return Err(Check::fail(
            name,
            Kind::ResourceExhausted,
            format!("cannot start a thread: {error}"),
            "free memory",
        ));
    }
    answered.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => Check::fail(
            name,
            Kind::Timeout,
            format!("no result within {} s", limit.as_secs()),
            "see whether the filesystem or server hangs; --timeout allows more time",
        ),
        RecvTimeoutError::Disconnected => {
            Check::fail(name, Kind::Internal, "the check ended without a result", "report this with the output of -vv")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_hangs_or_panics_fails() {
        let (hold, held) = mpsc::channel::<()>();
        let hung = within("a", Duration::from_millis(1), move || held.recv().is_ok()).unwrap_err();
        assert_eq!((hung.status, hung.kind), (Status::Fail, Some(Kind::Timeout)));
        drop(hold);
        let died = within("a", Duration::from_secs(60), || -> u8 { panic!("a test") }).unwrap_err();
        assert_eq!(died.kind, Some(Kind::Internal));
        assert_eq!(within("a", Duration::from_secs(60), || 7).unwrap(), 7);
    }
}
