//! The child's first process: enters namespaces, starts the worker in them, and waits.
//!
//! Only the monitor keeps its privileges. After starting the worker, it uses them only to end it if the parent dies.
//! The worker is the first process of its PID namespace, so once it has been waited for, nothing of it is left.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::socket::ControlMessage;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::UnixAddr;
use nix::sys::socket::sendmsg;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use nix::unistd::Pid;

use super::namespace;
use super::namespace::Entered;
use super::protocol;
use super::protocol::Plan;
use super::protocol::Reply;
use super::protocol::SetupError;
use super::wire::Incoming;
use super::wire::REQUEST_LIMIT;
use super::wire::Wire;
use crate::sys::process;

/// The status for a worker killed by signal `n` is `SIGNALLED + n`, as in a shell.
pub(super) const SIGNALLED: i32 = 128;

/// The status of a monitor that failed; the reason was sent to the parent.
const FAILED: i32 = 1;

/// What the monitor passes to the worker's process, which closes the monitor's other descriptors.
pub(super) struct Room {
    pub(super) control: UnixStream,
    /// Hangs up when the monitor dies.
    pub(super) monitor: UnixStream,
    pub(super) plan: Plan,
    pub(super) entered: Entered,
    /// The worker's ends of the pipes to its companion, for objects and for answers.
    pub(super) pipes: Option<[OwnedFd; 2]>,
}

/// Runs the monitor on the parent's socket; `work` runs in the worker. Returns the program's exit status.
pub(super) fn run(control: UnixStream, work: impl FnOnce(Room) -> i32) -> i32 {
    let mut wire = Wire::new(control, REQUEST_LIMIT);
    match start(&mut wire, work) {
        Ok((worker, lifeline)) => wait(worker, wire.stream(), &lifeline),
        Err(error) => {
            // If this fails too, the parent sees the status.
            drop(wire.send(&Reply::NotStarted(error)));
            FAILED
        }
    }
}

/// Starts the worker in its namespaces. Returns only in the monitor.
fn start(wire: &mut Wire, work: impl FnOnce(Room) -> i32) -> Result<(Pid, UnixStream), SetupError> {
    let (plan, mut held) = receive_plan(wire).map_err(SetupError::at("reading the plan"))?;
    let pipes = take_pipes(&plan, &mut held).map_err(SetupError::at("reading the plan"))?;
    let (entered, listener) = namespace::enter(&plan)?;
    let (lifeline, monitor) = UnixStream::pair().map_err(SetupError::at("making a socket"))?;
    let control = wire.stream().try_clone().map_err(SetupError::at("duplicating a socket"))?;
    match process::fork().map_err(SetupError::at("fork"))? {
        ForkResult::Child => {
            drop((listener, lifeline, held));
            process::exit_now(work(Room { control, monitor, plan, entered, pipes }));
        }
        ForkResult::Parent { child } => {
            // Only the worker's own end keeps a pipe open.
            drop((control, monitor, pipes));
            let started = Reply::Started { pid: child.as_raw(), namespaces: entered.namespaces };
            announce(wire, &started, listener).map_err(SetupError::at("handing over the socket"))?;
            // Kept until this process ends, after the worker: a uid stays taken as long as a process has its lock open.
            std::mem::forget(held);
            Ok((child, lifeline))
        }
    }
}

fn receive_plan(wire: &mut Wire) -> io::Result<(Plan, Vec<OwnedFd>)> {
    match wire.receive_with_descriptors(None)? {
        Incoming::Line(line) => Ok((serde_json::from_slice(&line)?, wire.take_descriptors())),
        Incoming::Quiet | Incoming::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The pipes come first.
fn take_pipes(plan: &Plan, held: &mut Vec<OwnedFd>) -> io::Result<Option<[OwnedFd; 2]>> {
    if plan.staging.is_none() {
        return Ok(None);
    }
    let pipes: Vec<OwnedFd> = held.drain(..held.len().min(2)).collect();
    pipes.try_into().map(Some).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

fn announce(wire: &Wire, started: &Reply, listener: Option<TcpListener>) -> io::Result<()> {
    send_with_descriptors(wire.stream(), &protocol::line(started)?, listener.as_slice())
}

/// Writes a short line, with descriptors for the other side.
pub(super) fn send_with_descriptors(socket: &UnixStream, line: &[u8], descriptors: &[impl AsFd]) -> io::Result<()> {
    let numbers: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[] } else { &rights[..] };
    let parts = [io::IoSlice::new(line)];
    let sent = sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    io::Write::write_all(&mut &*socket, &line[sent..])
}

/// Waits until the worker has ended. Ends it as soon as the parent hangs up.
fn wait(worker: Pid, control: &UnixStream, lifeline: &UnixStream) -> i32 {
    // Hang-ups are always reported. Nobody ever writes to the lifeline.
    let mut ends =
        [PollFd::new(control.as_fd(), PollFlags::empty()), PollFd::new(lifeline.as_fd(), PollFlags::empty())];
    while let Err(Errno::EINTR) = poll(&mut ends, PollTimeout::NONE) {}
    // The worker has not been waited for, so its pid is still valid, and this cannot fail if it has ended by itself.
    if kill(worker, Signal::SIGKILL).is_err() {
        return FAILED;
    }
    loop {
        match waitpid(worker, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => return SIGNALLED + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return FAILED,
        }
    }
}
