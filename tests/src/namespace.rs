//! Mounts that nobody else sees, and that vanish with the test; and programs that may have no namespaces.

use std::cell::Cell;
use std::env;
use std::io;
use std::process::Child;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

thread_local! {
    static PRIVATE: Cell<bool> = const { Cell::new(false) };
}

/// Gives the current thread a mount namespace of its own, into which nothing propagates and out of which nothing does.
///
/// Threads and processes that it starts afterwards share the namespace. The kernel unmounts everything in it when the
/// last of them ends, however it ends. Calling it again changes nothing. Needs root.
pub fn private_mounts() {
    if PRIVATE.get() {
        return;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("unshare the mount namespace");
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("make / private");
    PRIVATE.set(true);
}

/// Starts a program that is refused any new namespace, like all that it starts.
pub(crate) fn spawn_without(command: &mut Command) -> io::Result<Child> {
    // A filter is for life, so it gets a thread that has no other.
    std::thread::scope(|scope| {
        let spawn = || {
            refuse_unshare();
            command.spawn()
        };
        scope.spawn(spawn).join().unwrap()
    })
}

fn refuse_unshare() {
    let filter = SeccompFilter::new(
        [(libc::SYS_unshare, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(Errno::EPERM as u32),
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
