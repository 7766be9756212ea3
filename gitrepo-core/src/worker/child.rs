//! The child: confines itself, then runs the loop.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use super::errand::SentErrand;
use super::landlock;
use super::monitor;
use super::monitor::Room;
use super::namespace;
use super::namespace::Entered;
use super::privileges;
use super::protocol::Plan;
use super::protocol::Reply;
use super::protocol::Request;
use super::protocol::RequestError;
use super::protocol::Role;
use super::protocol::SetupError;
use super::seccomp;
use super::serve;
use super::serve::Client;
use super::serve::Replies;
use super::serve::Reported;
use super::wire::Incoming;
use super::wire::REQUEST_LIMIT;
use super::wire::Wire;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::pack::Inlet;
use crate::pack::Outlet;
use crate::remote::ConnectRequest;
use crate::remote::Git;
use crate::remote::Remote;
use crate::remote::content_limit;
use crate::remote::places;
use crate::sys::process;
use crate::watch::Watch;

/// The child's name: argument zero, and the only argument.
pub(super) const NAME: &str = "gitrepo-worker";

/// Becomes a worker if this process was started as one, and then does not return.
///
/// Must be the first line of `main` in every program that uses [`Confined`](super::Confined): the worker is the same
/// program, started again. No other thread may exist yet.
pub fn run_if_worker() {
    run_if_worker_with(|| Box::new(Git::default()));
}

/// Like [`run_if_worker`], with another remote. `remote` creates it once the child is confined.
pub fn run_if_worker_with(remote: impl FnOnce() -> Box<dyn Remote>) {
    if !is_worker() {
        return;
    }
    process::exit_now(run(remote));
}

/// Whether argument zero is the worker's name. Reads nothing else: a FlexVolume driver has secrets in its arguments,
/// and [`std::env::args_os`] would leave copies of them in memory.
fn is_worker() -> bool {
    let mut beginning = Vec::new();
    let read =
        File::open("/proc/self/cmdline").and_then(|list| list.take(NAME.len() as u64 + 1).read_to_end(&mut beginning));
    // Without /proc there are no workers either.
    read.is_ok() && beginning.strip_suffix(b"\0") == Some(NAME.as_bytes())
}

fn run(remote: impl FnOnce() -> Box<dyn Remote>) -> i32 {
    // The parent's socket is standard input. All other inherited descriptors were not meant for the worker.
    let control = process::close_inherited(3).and_then(|()| io::stdin().as_fd().try_clone_to_owned());
    match control {
        Ok(control) => monitor::run(UnixStream::from(control), |room| work(room, remote)),
        Err(_) => 1,
    }
}

/// Confines the worker and runs its session. Returns the exit status, 0 unless something is wrong.
fn work(room: Room, remote: impl FnOnce() -> Box<dyn Remote>) -> i32 {
    let Room { control, monitor, plan, entered, pipes } = room;
    let replies = match control.try_clone() {
        Ok(control) => Arc::new(Lines(Mutex::new(Wire::new(control, 0)))),
        Err(_) => return 1,
    };
    let confined = privileges::drop_all(&plan, entered, &monitor).and_then(|()| {
        let landlock =
            landlock::restrict(&plan, entered).map_err(|error| SetupError::at("Landlock")(io::Error::other(error)))?;
        seccomp::restrict(entered, plan.role).map_err(SetupError::at("the system-call filter"))?;
        process::exit_on_abort().map_err(SetupError::at("handling an abort"))?;
        Ok(landlock)
    });
    let landlock = match confined {
        Ok(landlock) => landlock.to_owned(),
        Err(error) => {
            replies.send(Reply::NotStarted(error));
            return 1;
        }
    };
    let wire = Wire::new(control, REQUEST_LIMIT);
    let work = |wire| {
        let ready = Ready { wire, replies: Arc::clone(&replies), landlock };
        match plan.role {
            Role::Receiver => receive_objects(ready, pipes.map(|pipes| (pipes, kept(&plan, entered))), remote),
            Role::Verifier => verify(ready, pipes),
        }
    };
    report_panics(|| work(wire), &*replies)
}

/// A worker that is confined.
struct Ready {
    wire: Wire,
    replies: Arc<Lines>,
    landlock: String,
}

impl Ready {
    /// Receives the errand.
    fn begin(&mut self) -> Option<ConnectRequest> {
        let SentErrand(errand) = receive(&mut self.wire)?;
        let progress = Arc::new(Reported::new(Arc::clone(&self.replies) as Arc<dyn Replies>));
        // The parent cancels by ending this process.
        Some(ConnectRequest::new(errand, Watch::new(Cancel::new(), progress)))
    }

    /// Tells the parent that requests may come.
    fn announce(self) -> Socket {
        let Self { wire, replies, landlock } = self;
        replies.send(Reply::Ready { landlock });
        Socket { wire, replies }
    }
}

fn receive_objects(
    mut ready: Ready,
    keeper: Option<([OwnedFd; 2], PathBuf)>,
    remote: impl FnOnce() -> Box<dyn Remote>,
) -> i32 {
    let Some(request) = ready.begin() else { return 1 };
    let request = match keeper {
        Some(([to, from], kept)) => {
            let places = places(&kept, content_limit(&request.errand));
            request.handing_over(Outlet::new(to.into(), from.into(), places))
        }
        None => request,
    };
    let remote = remote();
    serve::serve(&*remote, &request, &mut ready.announce());
    0
}

fn verify(mut ready: Ready, pipes: Option<[OwnedFd; 2]>) -> i32 {
    let (Some(request), Some([from, to])) = (ready.begin(), pipes) else { return 1 };
    serve::verify(&request, Inlet::new(from.into(), to.into()), &mut ready.announce());
    0
}

/// What the verifier keeps, as this receiver sees it.
fn kept(plan: &Plan, entered: Entered) -> PathBuf {
    match (&plan.kept, entered.namespaces) {
        (Some(kept), false) => kept.into(),
        _ => namespace::KEPT.into(),
    }
}

/// Receives the next message, if the parent sends a valid one.
fn receive<T: serde::de::DeserializeOwned>(wire: &mut Wire) -> Option<T> {
    match wire.receive(None) {
        Ok(Incoming::Line(line)) => serde_json::from_slice(&zeroize::Zeroizing::new(line)).ok(),
        Ok(Incoming::Quiet | Incoming::Closed) | Err(_) => None,
    }
}

/// Sends replies over the socket, from any thread.
struct Lines(Mutex<Wire>);

impl Replies for Lines {
    fn send(&self, reply: Reply) {
        let wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = wire.send(&reply) {
            // An error that cannot be serialised, such as a path that is not UTF-8, still needs an answer.
            let failed =
                Reply::Failed(RequestError::Internal(Cause::new(format_args!("cannot send the reply: {error}"))));
            drop(wire.send(&failed));
        }
    }
}

/// Receives requests over the socket.
struct Socket {
    wire: Wire,
    replies: Arc<Lines>,
}

impl Client for Socket {
    fn next(&mut self) -> Option<Request> {
        receive(&mut self.wire)
    }

    fn replies(&self) -> Arc<dyn Replies> {
        Arc::clone(&self.replies) as Arc<dyn Replies>
    }
}

/// Reports the location of a panic, but not its message, which may quote input.
fn report_panics(work: impl FnOnce() -> i32, replies: &dyn Replies) -> i32 {
    static PLACE: OnceLock<String> = OnceLock::new();
    panic::set_hook(Box::new(|panic| {
        // Only the first panic counts, not what follows from it.
        drop(PLACE.set(panic.location().map(ToString::to_string).unwrap_or_default()));
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let place = PLACE.get().map_or("", String::as_str);
        replies.send(Reply::Failed(RequestError::Internal(Cause::new(format_args!("it panicked at {place}")))));
        1
    })
}
