//! Runs the worker's loop in a thread of this process, for embedders and tests.

use std::io;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Job;
use super::Worker;
use super::WorkerError;
use super::protocol::Reply;
use super::protocol::Request;
use super::protocol::RequestError;
use super::serve;
use super::serve::Client;
use super::serve::Replies;
use super::serve::Reported;
use super::session::Peer;
use super::session::Phase;
use super::session::Session;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::error::Kind;
use crate::remote::ConnectRequest;
use crate::remote::Remote;
use crate::remote::RemoteError;
use crate::watch::Watch;

/// Runs sessions in threads: no process, no privilege to drop, and **none of the confinement**.
///
/// A bug in code that reads a remote's bytes then affects the whole process. The addresses of [`Job::host`] are not
/// enforced, since the remote resolves names itself. Memory is not bounded. Cancelling waits until the remote
/// implementation notices, at most `limits.stall`.
pub struct InProcess {
    remote: Arc<dyn Remote>,
}

impl InProcess {
    /// Creates a worker that runs sessions with this remote.
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self { remote }
    }
}

impl Worker for InProcess {
    fn start(&self, job: Job) -> Result<Session, WorkerError> {
        let cancel = job.watch.cancel.within(job.errand.limits.timeout);
        // A separate flag: ending the thread must not cancel the caller's whole operation.
        let ended = cancel.remaining().map_or_else(Cancel::new, |remaining| Cancel::new().within(remaining));
        let (requests, incoming) = mpsc::channel();
        let (replies, answers) = mpsc::channel();
        let mut client = Channel { incoming, replies: Arc::new(Sender(replies)) };
        let progress = Arc::new(Reported::new(client.replies()));
        let request = ConnectRequest::new(job.errand.clone(), Watch::new(ended.clone(), progress));
        let remote = Arc::clone(&self.remote);
        let thread = thread::Builder::new()
            .name("git-worker".to_owned())
            .spawn(move || {
                let replies = client.replies();
                let served = panic::catch_unwind(AssertUnwindSafe(|| {
                    serve::serve(&*remote, &request, &mut client);
                }));
                if served.is_err() {
                    replies.send(Reply::Failed(RequestError::Internal(Cause::new("it panicked"))));
                }
            })
            .map_err(|source| WorkerError::Start { step: "starting a thread".to_owned(), source })?;
        let peer =
            Thread { url: job.errand.url.to_string(), ended, requests: Some(requests), answers, thread: Some(thread) };
        Ok(Session::new(Box::new(peer), &job, cancel))
    }
}

/// The thread's side.
struct Channel {
    incoming: mpsc::Receiver<Request>,
    replies: Arc<Sender>,
}

struct Sender(mpsc::Sender<Reply>);

impl Replies for Sender {
    fn send(&self, reply: Reply) {
        // The receiver is gone once the session has ended.
        drop(self.0.send(reply));
    }
}

impl Client for Channel {
    fn next(&mut self) -> Option<Request> {
        self.incoming.recv().ok()
    }

    fn replies(&self) -> Arc<dyn Replies> {
        Arc::clone(&self.replies) as Arc<dyn Replies>
    }
}

/// The session's side.
struct Thread {
    url: String,
    ended: Cancel,
    requests: Option<mpsc::Sender<Request>>,
    answers: mpsc::Receiver<Reply>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Thread {
    fn gone(&self) -> WorkerError {
        WorkerError::Died { url: self.url.clone(), how: "its thread is gone".to_owned(), kind: Kind::Internal }
    }
}

impl Peer for Thread {
    fn ask(&mut self, request: Request) -> Result<(), WorkerError> {
        match &self.requests {
            Some(requests) if requests.send(request).is_ok() => Ok(()),
            _ => Err(self.gone()),
        }
    }

    fn answer(&mut self, patience: Duration) -> Result<Option<Reply>, WorkerError> {
        match self.answers.recv_timeout(patience) {
            Ok(reply) => Ok(Some(reply)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    fn network_failure(&mut self, _phase: Phase) -> Option<RemoteError> {
        None
    }

    fn end(&mut self) -> io::Result<()> {
        self.requests = None;
        self.ended.cancel();
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the worker's thread panicked")),
            _ => Ok(()),
        }
    }
}
