//! The store: its place, its filesystem, its version and what is known to be damaged in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::Config;
use gitrepo_core::store::Condition;
use gitrepo_core::volume::Volumes;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;

use super::check::Check;
use super::check::within;
use super::propagation::mount_of;
use crate::table;

/// Filesystems on other machines. Their locks and their speed are not what a store needs.
const NETWORK: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "fuse.sshfs", "virtiofs"];

/// Fewest free inodes, as a part of all.
const FEWEST_INODES: u64 = 20;

/// Checks the store. Returns its volumes if it can be used. Creates no store.
pub(super) fn check(config: &Config, limit: Duration) -> (Vec<Check>, Option<Volumes>) {
    let (owned, path) = (config.clone(), config.store.clone());
    match within("store", limit, move || open(owned, &path)) {
        Ok((mut checks, Some(volumes))) => {
            let reserve = config.cache.reserve_bytes;
            let looked = within("store content", limit, move || (look(&volumes, reserve), volumes));
            match looked {
                Ok((found, volumes)) => {
                    checks.extend(found);
                    (checks, Some(volumes))
                }
                Err(check) => {
                    checks.push(check);
                    (checks, None)
                }
            }
        }
        Ok((checks, None)) => (checks, None),
        Err(check) => (vec![check], None),
    }
}

fn open(config: Config, path: &Path) -> (Vec<Check>, Option<Volumes>) {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!("there is none at {}", path.display());
            let advice = "the first mount or the driver creates it; --store or --config names another one";
            return (vec![Check::warn("store", detail, advice)], None);
        }
        _ => {}
    }
    match Volumes::open(config) {
        Ok(volumes) => {
            let detail = format!("{}, of a version that this program knows", volumes.store().root().display());
            (vec![Check::ok("store", detail)], Some(volumes))
        }
        Err(error) => {
            let advice = "only the store's owner, usually root, can use it; check its mount, owner and mode";
            (vec![Check::fail("store", error.kind(), chain(&error), advice)], None)
        }
    }
}

fn look(volumes: &Volumes, reserve: u64) -> Vec<Check> {
    let store = volumes.store();
    let mut checks = vec![match store.probe() {
        Ok(()) => Check::ok("store writable", "a file was written and removed"),
        Err(error) => {
            let advice = "check whether the filesystem is read-only or full, and the kernel's log (dmesg)";
            Check::fail("store writable", error.kind(), chain(&error), advice)
        }
    }];
    checks.push(locks(store.root()));
    checks.push(filesystem(store.root()));
    checks.extend(room(store.root(), reserve));
    checks.push(match store.inventory() {
        Ok(inventory) => {
            let is_bad = |condition| condition != Condition::Good;
            let bad = inventory.snapshots.iter().filter(|snapshot| is_bad(snapshot.condition)).count();
            let (snapshots, repositories) = (inventory.snapshots.len(), inventory.repositories.len());
            let bytes = table::bytes(inventory.bytes());
            let detail = format!("{snapshots} snapshots and {repositories} repositories, {bytes}");
            match bad {
                0 => Check::ok("store content", detail),
                bad => Check::warn(
                    "store content",
                    format!("{detail}; {bad} snapshots are damaged, and no longer served"),
                    "`gitrepo-cli cache ls` shows them; see the kernel's log (dmesg) for errors of the disk",
                ),
            }
        }
        Err(error) => Check::fail("store content", error.kind(), chain(&error), "see the kernel's log (dmesg)"),
    });
    checks.push(match volumes.list() {
        Ok(list) => Check::ok("records", format!("{} published volumes", list.len())),
        Err(error) => Check::fail("records", error.kind(), chain(&error), "see the kernel's log (dmesg)"),
    });
    checks
}

/// Takes a lock as the store does, on a file without a name.
fn locks(root: &Path) -> Check {
    const NAME: &str = "store locks";
    let (place, flags) = (root.join("locks"), OFlag::O_TMPFILE.bits());
    let opened = File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(&place);
    match opened.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
        Ok(Ok(_)) => Check::ok(NAME, "the filesystem has them"),
        Ok(Err((_, error))) => {
            let advice = "put the store on a local filesystem, such as ext4 or xfs";
            Check::fail(NAME, Kind::FailedPrecondition, format!("cannot lock a file: {error}"), advice)
        }
        Err(error) => {
            let detail = format!("cannot make a file without a name in {}: {error}", place.display());
            Check::warn(NAME, detail, "so locks were not tried; they work on local filesystems")
        }
    }
}

fn filesystem(root: &Path) -> Check {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(on) = mount_of(root, &table) else {
        return Check::warn("store filesystem", "the mount table does not name it", "is /proc mounted?");
    };
    let detail = format!("{}, mounted on {}", on.filesystem, on.mount.display());
    match NETWORK.contains(&on.filesystem.as_str()) {
        true => Check::warn("store filesystem", detail, "put the store on a local filesystem, such as ext4 or xfs"),
        false => Check::ok("store filesystem", detail),
    }
}

fn room(root: &Path, reserve: u64) -> Vec<Check> {
    let found = match statvfs(root) {
        Ok(found) => found,
        Err(error) => return vec![Check::fail("store space", Kind::Unavailable, error.to_string(), "see dmesg")],
    };
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    let detail = format!("{} free; {} are kept free", table::bytes(free), table::bytes(reserve));
    let space = match free >= reserve {
        true => Check::ok("store space", detail),
        false => Check::warn(
            "store space",
            detail,
            "a fetch first removes what is unused, and fails if that is not enough: free some space",
        ),
    };
    let (all, left) = (found.files(), found.files_available());
    // Some filesystems do not count them.
    let inodes = (all > 0).then(|| match left >= all / FEWEST_INODES {
        true => Check::ok("store inodes", format!("{left} of {all} free")),
        false => {
            Check::warn("store inodes", format!("{left} of {all} free"), "remove files, or use a larger filesystem")
        }
    });
    std::iter::once(space).chain(inodes).collect()
}
