//! The two processes of a confined session: the receiver, which speaks to the remote, and the verifier, which does not.
//!
//! The verifier is started with the first fetch, while the remote is being asked. A session that only resolves has none.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::Contained;
use super::WorkerError;
use super::launch;
use crate::cancel::Cancel;
use crate::remote::Errand;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::worker::objects::SentFetched;
use crate::worker::protocol::Plan;
use crate::worker::protocol::Reply;
use crate::worker::protocol::Request;
use crate::worker::protocol::RequestError;
use crate::worker::session::Peer;
use crate::worker::session::Phase;

/// What a verifier is started with.
pub(super) struct Seed {
    pub(super) program: PathBuf,
    pub(super) plan: Plan,
    /// Without a secret.
    pub(super) errand: Errand,
    /// Its ends of the pipes to the receiver.
    pub(super) pipes: Vec<OwnedFd>,
    pub(super) cancel: Cancel,
}

/// Whose answer comes next.
enum Turn {
    /// The receiver's.
    Receiver,
    /// The verifier's.
    Verifier,
    /// The verifier's, about the fetch that the receiver says it has finished since then.
    Check(FetchReport, Instant),
    /// The verifier's, which has yet to keep the objects of Git LFS that the receiver says it has handed over.
    Objects(SentFetched, Instant),
    /// The verifier's, if it can tell why the receiver could not hand its objects over. It keeps those of Git LFS that came.
    Blame(RequestError, Instant),
}

/// How long a verifier may take to notice the end of a stream. It comes within the few bytes that a pipe holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a verifier may take to complete a segment whose stream was ended, and to bring it to the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A session's processes. Dropping it ends both.
pub(super) struct Pair {
    receiver: Contained,
    verifier: Option<Contained>,
    seed: Option<Seed>,
    turn: Turn,
    /// The last fetch.
    wanted: Option<FetchRequest>,
    /// Whether the verifier waits for the objects of a fetch.
    is_taking: bool,
    /// Whether these are objects of Git LFS.
    is_taking_objects: bool,
}

impl Pair {
    pub(super) fn new(receiver: Contained, seed: Option<Seed>) -> Self {
        Self {
            receiver,
            verifier: None,
            seed,
            turn: Turn::Receiver,
            wanted: None,
            is_taking: false,
            is_taking_objects: false,
        }
    }

    /// Starts the verifier unless it runs.
    fn verifier(&mut self) -> Result<&mut Contained, WorkerError> {
        let verifier = match (self.verifier.take(), self.seed.take()) {
            (Some(verifier), _) => verifier,
            (None, Some(Seed { program, plan, errand, pipes, cancel })) => {
                let (verifier, _) = launch(&program, &errand, plan, pipes, None, &cancel)?;
                self.receiver.companion = verifier.worker;
                verifier
            }
            (None, None) => {
                return Err(self.receiver.nonsense("a session without a staging directory has no verifier"));
            }
        };
        Ok(self.verifier.insert(verifier))
    }

    fn ask_verifier(&mut self, request: Request, turn: Turn) -> Result<(), WorkerError> {
        self.verifier()?.ask(request)?;
        self.turn = turn;
        Ok(())
    }

    /// Gives the verifier time to complete what it keeps: the stream of objects of Git LFS has ended with the receiver.
    fn await_the_last_objects(&mut self) {
        let (Some(verifier), begun) = (&mut self.verifier, Instant::now()) else { return };
        while begun.elapsed() < LAST_WORDS {
            if !matches!(verifier.answer(LAST_WORDS / 100), Ok(None | Some(Reply::Progress(_)))) {
                return;
            }
        }
    }

    /// Reads an answer of the receiver. What it says about a fetch is not the last word.
    fn heed_receiver(&mut self, reply: Reply) -> Result<Option<Reply>, WorkerError> {
        match reply {
            Reply::Fetched(report) => {
                let Some(wanted) = self.wanted.take() else {
                    return Err(self.receiver.nonsense("nothing was fetched"));
                };
                self.ask_verifier(Request::Check(wanted), Turn::Check(report, Instant::now()))?;
                Ok(None)
            }
            Reply::ObjectsFetched(fetched) => {
                self.turn = Turn::Objects(fetched, Instant::now());
                Ok(None)
            }
            Reply::Failed(error @ RequestError::Remote(RemoteError::HandOver { .. })) if self.is_taking => {
                self.turn = Turn::Blame(error, Instant::now());
                Ok(None)
            }
            Reply::Failed(error @ RequestError::Remote(_)) if self.is_taking_objects => {
                self.turn = Turn::Blame(error, Instant::now());
                Ok(None)
            }
            // It lists no tree, and checks no signature.
            Reply::Failed(RequestError::Snapshot(_) | RequestError::Signature(_)) => {
                Err(self.receiver.nonsense("a failure of the verifier's work"))
            }
            reply => Ok(Some(reply)),
        }
    }
}

impl Peer for Pair {
    fn ask(&mut self, request: Request) -> Result<(), WorkerError> {
        match request {
            Request::Resolve(_) | Request::Prove(_) | Request::Tag(_) | Request::ObjectsEndpoint => {
                self.turn = Turn::Receiver;
                self.receiver.ask(request)
            }
            Request::Fetch(fetch) => {
                self.receiver.ask(Request::Fetch(fetch.clone()))?;
                if !std::mem::replace(&mut self.is_taking, true) {
                    self.verifier()?.ask(Request::Take)?;
                }
                self.wanted = Some(fetch);
                self.turn = Turn::Receiver;
                Ok(())
            }
            Request::FetchObjects(fetch) => {
                let wanted = fetch.wanted();
                self.receiver.ask(Request::FetchObjects(fetch))?;
                self.verifier()?.ask(Request::TakeObjects(wanted))?;
                (self.is_taking, self.is_taking_objects) = (true, true);
                self.turn = Turn::Receiver;
                Ok(())
            }
            request => self.ask_verifier(request, Turn::Verifier),
        }
    }

    fn answer(&mut self, patience: Duration) -> Result<Option<Reply>, WorkerError> {
        if let Turn::Receiver = self.turn {
            return match self.receiver.answer(patience)? {
                Some(reply) => self.heed_receiver(reply),
                None => Ok(None),
            };
        }
        let reply = self.verifier()?.answer(patience)?;
        // If this is its last reply, it is still the verifier's: the network has no part in it.
        match (std::mem::replace(&mut self.turn, Turn::Verifier), reply) {
            (Turn::Blame(error, since), None) if since.elapsed() > PATIENCE => Ok(Some(Reply::Failed(error))),
            (Turn::Blame(error, _), Some(Reply::Taken | Reply::TakenObjects(_))) => {
                (self.is_taking, self.is_taking_objects) = (false, false);
                Ok(Some(Reply::Failed(error)))
            }
            (Turn::Objects(fetched, _), Some(Reply::TakenObjects(here))) => {
                (self.is_taking, self.is_taking_objects) = (false, false);
                Ok(Some(Reply::ObjectsFetched(fetched.with(here))))
            }
            (_, Some(failed @ Reply::Failed(_))) => {
                (self.is_taking, self.is_taking_objects) = (false, false);
                Ok(Some(failed))
            }
            (turn, Some(Reply::Taken)) if !self.is_taking_objects => {
                self.is_taking = false;
                self.turn = turn;
                Ok(None)
            }
            (Turn::Check(_, since) | Turn::Objects(_, since), None) if self.is_taking && since.elapsed() > PATIENCE => {
                Err(self.receiver.nonsense("it says that it has handed over everything, and has not"))
            }
            (turn, reply @ (None | Some(Reply::Progress(_)))) => {
                self.turn = turn;
                Ok(reply)
            }
            (Turn::Check(report, _), Some(Reply::Checked { narrow })) if !self.is_taking => {
                Ok(Some(Reply::Fetched(FetchReport { narrow, ..report })))
            }
            (_, reply) => Ok(reply),
        }
    }

    fn network_failure(&mut self, phase: Phase) -> Option<RemoteError> {
        match self.turn {
            Turn::Receiver => self.receiver.network_failure(phase),
            _ => None,
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.receiver.hang_up();
        let receiver = self.receiver.end();
        if std::mem::take(&mut self.is_taking_objects) {
            self.await_the_last_objects();
        }
        receiver.and(self.verifier.as_mut().map_or(Ok(()), Contained::end))
    }
}
