//! Drops every right that the worker does not need, permanently.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use nix::sys::signal::Signal;
use nix::unistd::Gid;
use nix::unistd::Uid;
use nix::unistd::setgroups;
use nix::unistd::setresgid;
use nix::unistd::setresuid;

use super::namespace::Entered;
use super::protocol::Plan;
use super::protocol::SetupError;
use crate::sys::capability;

/// Descriptors that a worker may have open: packs, indexes, a socket or two.
const DESCRIPTORS: u64 = 1024;

/// Threads of a receiver, which has a uid of its own, or of all verifiers together, which share a uid. The system-call
/// filter allows no processes.
const THREADS: u64 = 128;

/// Sets the worker's limits, drops its capabilities, changes its user if possible, and ties its life to the monitor's.
pub(super) fn drop_all(plan: &Plan, entered: Entered, monitor: &UnixStream) -> Result<(), SetupError> {
    limit(plan, entered).map_err(SetupError::at("setting limits"))?;
    if entered.namespaces {
        capability::bound(capability::Set::NONE).map_err(SetupError::at("dropping the bounding set"))?;
    }
    if entered.own_uid {
        setgroups(&[]).map_err(SetupError::at("setgroups"))?;
        if let Some(id) = plan.uid {
            setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id)).map_err(SetupError::at("setresgid"))?;
            setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id)).map_err(SetupError::at("setresuid"))?;
        }
    }
    capability::keep(capability::Set::NONE).map_err(SetupError::at("dropping capabilities"))?;
    prctl::set_no_new_privs().map_err(SetupError::at("no_new_privs"))?;
    prctl::set_dumpable(false).map_err(SetupError::at("forbidding core dumps"))?;
    die_with(monitor).map_err(SetupError::at("dying with the monitor"))
}

fn limit(plan: &Plan, entered: Entered) -> nix::Result<()> {
    // Raising a limit needs CAP_SYS_RESOURCE, which drivers drop, so a lower one is kept.
    let both = |resource, limit: u64| {
        let limit = limit.min(getrlimit(resource)?.1);
        setrlimit(resource, limit, limit)
    };
    both(Resource::RLIMIT_CORE, 0)?;
    both(Resource::RLIMIT_DATA, plan.memory)?;
    both(Resource::RLIMIT_FSIZE, plan.file_size)?;
    both(Resource::RLIMIT_NOFILE, DESCRIPTORS)?;
    // The limit counts every process of the uid on the host, so with a shared uid it would affect others.
    if plan.uid_is_ours && entered.own_uid {
        both(Resource::RLIMIT_NPROC, THREADS)?;
    }
    Ok(())
}

/// Makes the kernel kill this process when the monitor dies. Called after the change of user, which clears this
/// setting. Then checks that the monitor is alive, since it may have died before.
fn die_with(monitor: &UnixStream) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut end = [PollFd::new(monitor.as_fd(), PollFlags::empty())];
    match poll(&mut end, PollTimeout::ZERO) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Errno::ESRCH.into()),
        Err(error) => Err(error.into()),
    }
}
