//! Mounts that nobody else sees, and that vanish with the test.

use std::cell::Cell;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

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
