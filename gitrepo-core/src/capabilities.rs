//! The capabilities that root drops at the start of a driver.
//!
//! A privileged container has every capability, whatever its manifest drops, and the kubelet runs FlexVolume drivers
//! with all its own. So a driver drops what it does not need itself: from every set of its thread, including the
//! bounding set, before it starts another thread or a worker.

use std::io;

use crate::sys::capability;
use crate::sys::capability::Set;
use crate::sys::process;

/// The role of a program, which decides what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A driver on a node: mounts volumes and fetches.
    Node,
    /// A driver's controller: asks remotes, through workers, and mounts nothing. Our manifests run it as an ordinary
    /// user, who has no capability and needs none.
    Controller,
    /// Installs a driver on a node and sweeps the stores there.
    Installer,
}

/// A capability that some role needs.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    /// The name in manifests, without `CAP_`.
    pub name: &'static str,
    /// Its number in `linux/capability.h`.
    pub number: u8,
    /// Why it is needed.
    pub reason: &'static str,
    /// The roles that need it.
    roles: &'static [Role],
}

/// All capabilities that any role keeps. `docs/install-csi.md`, `docs/install-flexvolume.md` and the DaemonSets have
/// the same lists; a test compares them.
const TABLE: [Needed; 14] = {
    use Role::Controller;
    use Role::Installer;
    use Role::Node;
    const fn needed(name: &'static str, number: u8, reason: &'static str, roles: &'static [Role]) -> Needed {
        Needed { name, number, reason, roles }
    }
    [
        needed(
            "SYS_ADMIN",
            21,
            "to mount, to make a worker's namespaces, and to set limits of project quotas",
            &[Node, Controller],
        ),
        needed("SYS_CHROOT", 18, "to make a worker's namespaces from within a chroot", &[Node, Controller]),
        needed("NET_ADMIN", 12, "to switch on the loopback of a worker's network", &[Node, Controller]),
        needed("NET_BIND_SERVICE", 10, "to take the git server's port on that loopback", &[Node, Controller]),
        needed("SETUID", 7, "to give a worker a user of its own", &[Node, Controller]),
        needed("SETGID", 6, "to give a worker a group of its own", &[Node, Controller]),
        needed("SETPCAP", 8, "to take all capabilities from a worker for good", &[Node, Controller]),
        needed("KILL", 5, "to end a worker, whose user is another one", &[Node, Controller]),
        needed(
            "CHOWN",
            0,
            "to take over what a worker fetched, and to give writable volumes to their pods",
            &[Node, Installer],
        ),
        needed("DAC_OVERRIDE", 1, "to read and delete files of workers and pods", &[Node, Installer]),
        needed(
            "FOWNER",
            3,
            "to change modes of files of workers and pods, and to give those to projects",
            &[Node, Installer],
        ),
        needed("FSETID", 4, "to keep the set-group-id bit of directories of a pod's group", &[Node]),
        // An overlay does what a pod asks for with the capabilities of whoever mounted it.
        needed("MKNOD", 27, "to let a pod that may do so make devices in a writable volume", &[Node]),
        needed("SETFCAP", 31, "to let a pod that may do so set file capabilities in a writable volume", &[Node]),
    ]
};

/// Returns the capabilities that a role needs. [`drop_others`] drops the rest.
pub fn needed(role: Role) -> impl Iterator<Item = &'static Needed> {
    TABLE.iter().filter(move |needed| needed.roles.contains(&role))
}

/// Drops every capability that `role` does not need, permanently, and prevents regaining any by running a program.
/// Capabilities that this process lacks are skipped: an ordinary user has nothing to drop.
///
/// Call it before any other thread starts: each thread has its own sets, inherited from the thread that starts it.
///
/// # Errors
///
/// If other threads exist, or if a system call fails, which no Linux is known to do.
pub fn drop_others(role: Role) -> io::Result<()> {
    if !process::has_one_thread()? {
        return Err(io::Error::other("another thread was started before, and would keep its capabilities"));
    }
    let kept = Set::of(needed(role).map(|needed| needed.number));
    match capability::bound(kept) {
        // Without SETPCAP the bounding set cannot be changed. The last line of this function makes sure that nothing
        // can be gained from it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        result => result?,
    }
    capability::keep(kept)?;
    nix::sys::prctl::set_no_new_privs().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_is_listed_once_with_a_role_and_a_reason() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|needed| needed.name).collect();
        let numbers: std::collections::BTreeSet<_> = TABLE.iter().map(|needed| needed.number).collect();
        assert_eq!((names.len(), numbers.len()), (TABLE.len(), TABLE.len()));
        assert!(TABLE.iter().all(|needed| !needed.roles.is_empty() && !needed.reason.is_empty()));
    }

    #[test]
    fn a_program_with_threads_is_refused() {
        // Tests run in threads of their own.
        let refused = drop_others(Role::Node).unwrap_err();
        assert!(refused.to_string().contains("another thread"), "{refused}");
    }
}
