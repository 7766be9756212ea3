//! Logs one line for each call: the method, the volume, the result, and the duration, but never a request's body.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::spec::CommitId;
use gitrepo_core::volume::Published;
use gitrepo_frontend::log::printable;
use tonic::Response;
use tonic::Status;

use crate::failure::CallFailure;
use crate::metrics;
use crate::metrics::Metrics;
use crate::status;

/// Codes that belong to no kind of failure, as gRPC spells them.
const OK: &str = "OK";
const UNIMPLEMENTED: &str = "UNIMPLEMENTED";

/// A call in progress. If it is dropped without an answer, it logs that the client went away.
pub struct Call {
    metrics: Arc<Metrics>,
    method: &'static str,
    start: Instant,
    quiet: bool,
    volume_id: Option<String>,
    target: Option<String>,
    repository: Option<String>,
    commit: Option<CommitId>,
    outcome: Option<&'static str>,
    format: Option<&'static str>,
    answered: bool,
}

impl Call {
    /// Returns a new call of this method.
    pub fn new(metrics: &Arc<Metrics>, method: &'static str) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            method,
            start: Instant::now(),
            quiet: false,
            volume_id: None,
            target: None,
            repository: None,
            commit: None,
            outcome: None,
            format: None,
            answered: false,
        }
    }

    /// Returns a new call that comes every few seconds. It is logged as `debug` unless it fails.
    pub fn quiet(metrics: &Arc<Metrics>, method: &'static str) -> Self {
        let mut call = Self::new(metrics, method);
        call.quiet = true;
        call
    }

    /// Adds the volume and target to the log line.
    pub fn about(&mut self, volume_id: &str, target: &str) {
        self.volume_id = Some(printable(volume_id));
        self.target = Some(printable(target));
    }

    /// Adds the repository, without secrets.
    pub fn repository(&mut self, repository: &impl ToString) {
        self.repository = Some(printable(&repository.to_string()));
    }

    /// Adds the commit.
    pub fn commit(&mut self, commit: CommitId) {
        self.commit = Some(commit);
    }

    /// Adds the published volume.
    pub fn published(&mut self, published: &Published) {
        self.commit = Some(published.commit);
        self.outcome = Some(metrics::outcome(published.outcome));
        self.format = Some(published.format.name());
    }

    /// Returns the time since the call started.
    pub fn took(&self) -> Duration {
        self.start.elapsed()
    }

    /// Logs, counts and returns the answer.
    pub fn answer<T>(mut self, answer: Result<T, CallFailure>) -> Result<Response<T>, Status> {
        self.answered = true;
        match answer {
            Ok(message) => {
                self.log(OK, None);
                Ok(Response::new(message))
            }
            Err(failure) => {
                self.metrics.error(self.method, failure.kind);
                self.log(status::describe(failure.kind).code_name, Some(&failure.message));
                Err(failure.into())
            }
        }
    }

    /// Refuses a method that this driver does not implement.
    pub fn unimplemented<T>(mut self) -> Result<Response<T>, Status> {
        self.answered = true;
        self.log(UNIMPLEMENTED, None);
        Err(Status::unimplemented(format!("{} is not offered by this driver", self.method)))
    }

    fn log(&self, code: &'static str, error: Option<&str>) {
        self.metrics.rpc(self.method, code);
        let milliseconds = u64::try_from(self.took().as_millis()).unwrap_or(u64::MAX);
        // tracing needs the level at compile time.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method = self.method,
                    volume = self.volume_id,
                    target_path = self.target,
                    repository = self.repository,
                    commit = self.commit.map(tracing::field::display),
                    outcome = self.outcome,
                    format = self.format,
                    code,
                    milliseconds,
                    error,
                    "call"
                )
            };
        }
        match code {
            OK if self.quiet => line!(debug),
            OK | UNIMPLEMENTED => line!(info),
            _ => line!(warn),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.log(status::CANCELLED, Some("the client went away before the answer"));
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn calls_are_counted_by_code_even_if_the_client_goes_away() {
        let metrics = Arc::new(Metrics::default());
        assert!(Call::new(&metrics, "Probe").answer(Ok(())).is_ok());
        let failed = Call::new(&metrics, "Probe").answer::<()>(Err(CallFailure::invalid("no")));
        assert_eq!(failed.unwrap_err().code(), Code::InvalidArgument);
        drop(Call::new(&metrics, "Probe"));
        let text = metrics.render(&metrics::Observed::default()).unwrap();
        for line in [
            "gitrepo_rpcs_total{method=\"Probe\",code=\"OK\"} 1",
            "gitrepo_rpcs_total{method=\"Probe\",code=\"INVALID_ARGUMENT\"} 1",
            "gitrepo_rpcs_total{method=\"Probe\",code=\"CANCELLED\"} 1",
            "gitrepo_errors_total{method=\"Probe\",kind=\"invalidRequest\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
