//! A confined child as a session's peer.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::ExitStatus;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::Confined;
use super::Incoming;
use super::Relay;
use super::Wire;
use super::WorkerError;
use super::pace::Observed;
use super::pace::Pace;
use super::protocol;
use super::protocol::Reply;
use super::received_limit;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::error::Kind;
use crate::remote::Errand;
use crate::remote::RemoteError;
use crate::worker::monitor::SIGNALLED;
use crate::worker::protocol::Request;
use crate::worker::relay::Trouble;
use crate::worker::session::Peer;
use crate::worker::session::Phase;

/// A child and its resources. Dropping it ends the child.
pub(super) struct Contained {
    pub(super) url: String,
    pub(super) wire: Wire,
    pub(super) relay: Option<Relay>,
    /// The worker's process id, in the parent's PID namespace.
    pub(super) worker: Option<Pid>,
    /// The process that it hands its work over to, and may have to wait for.
    pub(super) companion: Option<Pid>,
    /// Paths as the worker sees them, and on the host.
    pub(super) places: Vec<(String, String)>,
    /// The monitor.
    child: Child,
    fetch_bytes: u64,
    stall: Duration,
    silence: Silence,
    minimum_rate: u64,
    /// Of the current request.
    pace: Option<Pace>,
}

/// The time since the worker last sent, received or computed.
struct Silence {
    since: Instant,
    bytes: u64,
    processor: Duration,
}

impl Contained {
    /// How often cancellation is checked while the child starts.
    const TICK: Duration = Duration::from_millis(50);

    pub(super) fn new(errand: &Errand, child: Child, wire: Wire) -> Self {
        Self {
            url: errand.url.to_string(),
            wire,
            relay: None,
            worker: None,
            companion: None,
            places: Vec::new(),
            child,
            fetch_bytes: errand.limits.fetch_bytes,
            stall: errand.limits.stall,
            silence: Silence { since: Instant::now(), bytes: 0, processor: Duration::ZERO },
            minimum_rate: errand.limits.minimum_rate,
            pace: None,
        }
    }

    /// Waits for the child's first reply, the only one from which descriptors are accepted.
    pub(super) fn first_reply(&mut self, cancel: &Cancel) -> Result<Reply, WorkerError> {
        self.in_time(cancel, |peer| {
            let incoming = peer.wire.receive_with_descriptors(Some(Self::TICK));
            peer.reply(incoming)
        })
    }

    /// Waits for the next reply, which must come soon.
    pub(super) fn next_reply(&mut self, cancel: &Cancel) -> Result<Reply, WorkerError> {
        self.in_time(cancel, |peer| peer.answer(Self::TICK))
    }

    fn in_time(
        &mut self,
        cancel: &Cancel,
        mut receive: impl FnMut(&mut Self) -> Result<Option<Reply>, WorkerError>,
    ) -> Result<Reply, WorkerError> {
        let begun = Instant::now();
        loop {
            if let Some(found) = receive(self)? {
                return Ok(found);
            }
            cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url.clone(), source })?;
            if begun.elapsed() > Confined::PATIENCE {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(WorkerError::Start { step: "waiting for the worker".to_owned(), source });
            }
        }
    }

    fn reply(&mut self, incoming: io::Result<Incoming>) -> Result<Option<Reply>, WorkerError> {
        match incoming {
            Ok(Incoming::Line(line)) => {
                protocol::reply(&line, &self.places).map(Some).map_err(|error| self.nonsense(error))
            }
            Ok(Incoming::Quiet) => Ok(None),
            Ok(Incoming::Closed) => Err(self.died()),
            Err(error) => Err(self.nonsense(error)),
        }
    }

    /// Returns the error for a violation of the protocol.
    pub(super) fn nonsense(&self, what: impl fmt::Display) -> WorkerError {
        WorkerError::Protocol { url: self.url.clone(), source: Cause::new(what) }
    }

    /// Returns the error for a child that hung up.
    fn died(&mut self) -> WorkerError {
        let (how, kind) = match self.stop() {
            Ok(status) => how_it_died(status),
            Err(error) => (format!("and cannot be waited for: {error}"), Kind::Internal),
        };
        WorkerError::Died { url: self.url.clone(), how, kind }
    }

    /// Makes the monitor end the worker.
    pub(super) fn hang_up(&self) {
        // Fails only if the other side has already hung up.
        drop(self.wire.stream().shutdown(Shutdown::Both));
    }

    /// Hangs up, and waits for the monitor.
    fn stop(&mut self) -> io::Result<ExitStatus> {
        self.hang_up();
        let status = self.child.wait()?;
        self.relay = None;
        Ok(status)
    }

    /// Whether the worker waits for a silent remote: nothing moves on the network, and the worker is not computing
    /// either.
    ///
    /// A worker that resolves deltas is silent too, but busy.
    fn stalled(&mut self) -> bool {
        let Some(traffic) = self.relay.as_ref().map(Relay::traffic) else { return false };
        let bytes = traffic.bytes();
        if bytes != self.silence.bytes || !traffic.is_open() || traffic.is_worker_behind() {
            self.note_activity(bytes);
            return false;
        }
        if self.silence.since.elapsed() < self.stall {
            return false;
        }
        let busy = self.processor_time().saturating_sub(self.silence.processor);
        self.note_activity(bytes);
        busy < self.stall / 20
    }

    /// Whether the remote keeps the worker waiting, byte by byte.
    fn is_too_slow(&mut self) -> bool {
        let Some(now) = self.observe() else { return false };
        let (rate, window) = (self.minimum_rate, self.stall);
        self.pace.get_or_insert_with(|| Pace::new(rate, window, now)).is_too_slow(now)
    }

    fn observe(&self) -> Option<Observed> {
        let traffic = self.relay.as_ref().map(Relay::traffic)?;
        Some(Observed {
            at: Instant::now(),
            bytes: traffic.bytes(),
            processor: self.processor_time(),
            is_connected: traffic.is_open(),
            is_worker_behind: traffic.is_worker_behind(),
        })
    }

    fn note_activity(&mut self, bytes: u64) {
        self.silence = Silence { since: Instant::now(), bytes, processor: self.processor_time() };
    }

    /// Returns the processor time that the worker and its companion have used so far.
    fn processor_time(&self) -> Duration {
        let used = |process: Pid| clock_getcpuclockid(process).ok()?.now().ok().map(Duration::from);
        [self.worker, self.companion].into_iter().flatten().filter_map(used).sum()
    }
}

impl Peer for Contained {
    fn ask(&mut self, request: Request) -> Result<(), WorkerError> {
        let bytes = self.relay.as_ref().map_or(0, |relay| relay.traffic().bytes());
        self.note_activity(bytes);
        self.pace = None;
        // What came before is no part of the objects.
        if let (Request::FetchObjects(objects), Some(relay)) = (&request, &self.relay) {
            relay.traffic().open_account(received_limit(self.fetch_bytes, objects.count()));
        }
        self.wire.send(&request).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.died(),
            _ => self.nonsense(error),
        })
    }

    fn answer(&mut self, patience: Duration) -> Result<Option<Reply>, WorkerError> {
        let incoming = self.wire.receive(Some(patience));
        self.reply(incoming)
    }

    fn network_failure(&mut self, phase: Phase) -> Option<RemoteError> {
        let phase = match phase {
            Phase::Resolving => "asking for its refs",
            Phase::Fetching => "sending a pack",
            Phase::Writing => return None,
        };
        let url = self.url.clone();
        match self.relay.as_ref()?.traffic().trouble() {
            Some(Trouble::TooLarge) => return Some(RemoteError::TooLarge { url, limit: self.fetch_bytes }),
            Some(Trouble::Unreachable(source)) => return Some(RemoteError::Unreachable { url, source }),
            None => {}
        }
        if self.stalled() {
            return Some(RemoteError::Stalled { url, seconds: self.stall.as_secs(), phase: phase.to_owned() });
        }
        self.is_too_slow().then(|| RemoteError::TooSlow { url, rate: self.minimum_rate, phase: phase.to_owned() })
    }

    fn end(&mut self) -> io::Result<()> {
        waited_for(self.stop()?)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(url = self.url, %error, "cannot wait for the worker's end");
        }
    }
}

/// Checks that the monitor has waited for the worker. A killed monitor has not: its worker dies shortly after it.
fn waited_for(monitor: ExitStatus) -> io::Result<()> {
    match monitor.signal() {
        Some(signal) => Err(io::Error::other(format!("its monitor was ended by signal {signal}"))),
        None => Ok(()),
    }
}

/// Describes how the worker died, and returns the kind of the failure.
fn how_it_died(status: ExitStatus) -> (String, Kind) {
    let signal = status.signal().or_else(|| status.code().map(|code| code - SIGNALLED)).filter(|signal| *signal > 0);
    match signal.map(Signal::try_from) {
        Some(Ok(Signal::SIGKILL)) => {
            ("killed, as the kernel does when memory runs out".to_owned(), Kind::ResourceExhausted)
        }
        Some(Ok(Signal::SIGABRT)) => {
            ("aborted, as it does when it needs more memory than worker.memory".to_owned(), Kind::ResourceExhausted)
        }
        Some(Ok(Signal::SIGXFSZ)) => ("a file grew beyond every limit".to_owned(), Kind::ResourceExhausted),
        Some(Ok(Signal::SIGSYS)) => {
            ("ended by SIGSYS, for a system call that its own filter forbids".to_owned(), Kind::Internal)
        }
        Some(Ok(signal)) => (format!("crashed with {signal}"), Kind::Internal),
        Some(Err(_)) | None => (status.to_string(), Kind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_monitor_has_not_waited_for_its_worker() {
        assert!(waited_for(ExitStatus::from_raw(Signal::SIGKILL as i32)).is_err());
        assert!(waited_for(ExitStatus::from_raw((SIGNALLED + Signal::SIGKILL as i32) << 8)).is_ok());
    }

    #[test]
    fn the_monitor_passes_on_how_the_worker_died() {
        let exited = |code: i32| how_it_died(ExitStatus::from_raw(code << 8));
        assert_eq!(exited(SIGNALLED + Signal::SIGABRT as i32).1, Kind::ResourceExhausted);
        assert_eq!(exited(SIGNALLED + Signal::SIGSEGV as i32), ("crashed with SIGSEGV".to_owned(), Kind::Internal));
        let (how, kind) = exited(SIGNALLED + Signal::SIGSYS as i32);
        assert!(how.contains("SIGSYS") && kind == Kind::Internal, "{how}");
        assert_eq!(exited(1), ("exit status: 1".to_owned(), Kind::Internal));
        assert_eq!(how_it_died(ExitStatus::from_raw(Signal::SIGKILL as i32)).1, Kind::ResourceExhausted);
    }
}
