//! The worker's own namespaces, and the few files visible in them.
//!
//! ```text
//! /.gitrepo/staging     the directory to write to
//! /.gitrepo/kept        a receiver's: what the verifier keeps, read-only
//! /.gitrepo/base        the repository that it builds on, read-only
//! /.gitrepo/ca.pem      certificate authorities
//! /etc/hosts            the repository's host is 127.0.0.1
//! /etc/nsswitch.conf    no other source of names
//! /<path>               the repository of a file URL, read-only, at its path on the host
//! ```
//!
//! No `/proc`, no `/dev`, and a read-only root. These paths exist only for the worker, so its output must not contain
//! them. The only exception is the `alternates` file of a fetched repository.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::stat::Mode;
use nix::sys::stat::umask;
use nix::sys::statvfs::FsFlags;
use nix::sys::statvfs::statvfs;
use nix::unistd::chdir;
use nix::unistd::chroot;
use nix::unistd::getegid;
use nix::unistd::geteuid;
use nix::unistd::pivot_root;

use super::protocol::Host;
use super::protocol::Plan;
use super::protocol::Role;
use super::protocol::SetupError;
use crate::remote::REPOSITORY;
use crate::sys::network;

/// The directory of all our files in the worker's root.
const OURS: &str = "/.gitrepo";
/// The directory to write to, as the worker sees it.
pub(super) const STAGING: &str = "/.gitrepo/staging";
/// What the verifier keeps, as the receiver sees it.
pub(super) const KEPT: &str = "/.gitrepo/kept";
/// The job's base, as the worker sees it.
pub(super) const BASE: &str = "/.gitrepo/base";
/// The certificate authorities, as the worker sees them.
pub(super) const CA_FILE: &str = "/.gitrepo/ca.pem";
/// The host's root, until the worker's is complete.
const OUTSIDE: &str = "/.gitrepo/outside";

/// Where a new root is mounted for the instant before it becomes the root. Any directory would do; this one always
/// exists, since this program was started through it.
const PROC: &str = "/proc";

/// Flags of every mount in the worker's root.
const SECURE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Maximum size of a CA bundle, in bytes. Those of distributions have about 220 KiB.
const CA_LIMIT: u64 = 4 << 20;

/// How long a newly added address may take to become usable.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);

/// The environment of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entered {
    /// Whether it has namespaces of its own and sees only the paths above.
    pub(super) namespaces: bool,
    /// Whether it may change its user, because the host's root started it.
    pub(super) own_uid: bool,
}

/// Enters the namespaces that this process may, and builds the worker's root there. The next child is the first process
/// of the new PID namespace.
///
/// Without permission (an ordinary user where user namespaces are refused, root without `CAP_SYS_ADMIN`) the worker
/// stays outside. Then limits, Landlock and the system-call filter confine it, and only the port of the address is
/// pinned.
pub(super) fn enter(plan: &Plan) -> Result<(Entered, Option<TcpListener>), SetupError> {
    be_killed_first();
    let outside = Entered { namespaces: false, own_uid: false };
    let Some(own_uid) = unshare_most()? else { return Ok((outside, None)) };
    match make_private("/") {
        Ok(()) => {}
        // The root is not a mount, but a chroot into some directory.
        Err(Errno::EINVAL) => make_root_a_mount().map_err(SetupError::at("making the root a mount"))?,
        // Some distributions allow a user namespace, but grant no rights in it.
        Err(Errno::EPERM | Errno::EACCES) => return Ok((outside, None)),
        Err(error) => return Err(SetupError::at("making mounts private")(error)),
    }
    // The network comes last: a worker that falls back needs the present one.
    unshare(CloneFlags::CLONE_NEWNET).map_err(SetupError::at("unshare"))?;
    network::loopback_up().map_err(SetupError::at("switching the loopback on"))?;
    let listener = plan.host.as_ref().map(listen).transpose()?;
    build_root(plan, own_uid)?;
    Ok((Entered { namespaces: true, own_uid }, listener))
}

/// Stops mount propagation below `path`, in both directions.
fn make_private(path: &str) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Makes the kernel's OOM killer choose this process before any pod: a driver's pod is protected as critical for the
/// node, and its children inherit that.
fn be_killed_first() {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::debug!(%error, "cannot lower the worker's protection from the OOM killer");
    }
}

/// Makes the root directory a mount and that mount the root, since only a mount can be private and be pivoted from.
///
/// The mount behind the chroot may be shared with the host, and no path leads to its root: a mount on any of its
/// directories would appear on the host. So this mounts on `/proc`, which is a mount of its own.
fn make_root_a_mount() -> nix::Result<()> {
    make_private(PROC)?;
    mount(Some("/"), PROC, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    // A bind of a shared mount is shared.
    make_private(PROC)?;
    chdir(PROC)?;
    chroot(".")
}

/// Enters all namespaces but the network's. `None` if refused, else whether the user namespace is the host's.
fn unshare_most() -> Result<Option<bool>, SetupError> {
    let namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if geteuid().is_root() {
        match unshare(namespaces) {
            Ok(()) => return Ok(Some(true)),
            Err(Errno::EPERM) => {}
            Err(error) => return Err(SetupError::at("unshare")(error)),
        }
    }
    let (uid, gid) = (geteuid(), getegid());
    match unshare(namespaces | CloneFlags::CLONE_NEWUSER) {
        Ok(()) => {}
        // Not permitted, disabled, not compiled in, or too many.
        Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS | Errno::ENOSPC | Errno::EUSERS) => {
            return Ok(None);
        }
        Err(error) => return Err(SetupError::at("unshare")(error)),
    }
    let map = |file: &str, text: String| fs::write(Path::new("/proc/self").join(file), text);
    let mapped = map("setgroups", "deny".to_owned())
        .and_then(|()| map("uid_map", format!("{uid} {uid} 1")))
        .and_then(|()| map("gid_map", format!("{gid} {gid} 1")));
    match mapped {
        Ok(()) => Ok(Some(false)),
        // Ubuntu since 23.10 allows a user namespace, but grants no rights in it, not even to map its own user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(SetupError::at("mapping the user")(error)),
    }
}

/// Opens the socket that the worker connects to in place of its host.
fn listen(host: &Host) -> Result<TcpListener, SetupError> {
    let address = match host.name.parse::<IpAddr>() {
        Ok(address) => {
            if !address.is_loopback() {
                network::loopback_address(address).map_err(SetupError::at("adding the host's address"))?;
            }
            address
        }
        Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    // The kernel activates an IPv6 address in the background, soon after it was added.
    let begun = Instant::now();
    loop {
        match TcpListener::bind(SocketAddr::new(address, host.port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && begun.elapsed() < ADDRESS_PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            bound => return bound.map_err(SetupError::at("listening for the worker")),
        }
    }
}

fn build_root(plan: &Plan, own_uid: bool) -> Result<(), SetupError> {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    mount(Some("gitrepo-worker"), PROC, Some("tmpfs"), SECURE, Some("size=8m,nr_inodes=1024,mode=0755"))
        .map_err(SetupError::at("mounting a new root"))?;
    chdir(PROC).map_err(SetupError::at("entering the new root"))?;
    fs::create_dir_all(&OUTSIDE[1..]).map_err(SetupError::at("laying out the new root"))?;
    pivot_root(".", &OUTSIDE[1..]).map_err(SetupError::at("pivot_root"))?;
    chdir("/").map_err(SetupError::at("entering the new root"))?;

    furnish(plan, own_uid)?;

    umount2(OUTSIDE, MntFlags::MNT_DETACH).map_err(SetupError::at("leaving the old root"))?;
    fs::remove_dir(OUTSIDE).map_err(SetupError::at("leaving the old root"))?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | SECURE,
        None::<&str>,
    )
    .map_err(SetupError::at("making the new root read-only"))
}

fn furnish(plan: &Plan, own_uid: bool) -> Result<(), SetupError> {
    // This comes before any bind: none of these files may ever be written into one.
    write_names(plan.host.as_ref()).map_err(SetupError::at("writing /etc/hosts"))?;
    if let Some(ca_file) = &plan.ca_file {
        // A copy, since the worker's user may not have permission to read the original.
        copy_bounded(&outside(ca_file), Path::new(CA_FILE))
            .map_err(SetupError::at("copying the certificate authorities"))?;
    }
    if let Some(source) = &plan.source {
        let shown_at = Path::new(&source.shown_at);
        if shown_at.starts_with(OURS) {
            let taken = io::Error::new(io::ErrorKind::InvalidInput, "the worker needs this path for itself");
            return Err(SetupError::at("showing the source repository")(taken));
        }
        bind(&source.path, shown_at, MsFlags::MS_RDONLY).map_err(SetupError::at("showing the source repository"))?;
    }
    if let Some(base) = &plan.base {
        bind(base, Path::new(BASE), MsFlags::MS_RDONLY).map_err(SetupError::at("showing the base repository"))?;
    }
    if let Some(kept) = &plan.kept {
        bind(kept, Path::new(KEPT), MsFlags::MS_RDONLY).map_err(SetupError::at("showing what is kept"))?;
    }
    if let Some(staging) = &plan.staging {
        bind(staging, Path::new(STAGING), MsFlags::empty()).map_err(SetupError::at("showing the staging directory"))?;
        if own_uid {
            let gave = || SetupError::at("giving the staging directory away");
            lchown(STAGING, plan.uid, plan.uid).map_err(gave())?;
            if plan.role == Role::Verifier {
                // Made by the parent, so that the receiver could be shown it before the verifier is there.
                lchown(Path::new(STAGING).join(REPOSITORY), plan.uid, plan.uid).map_err(gave())?;
            }
        }
    }
    Ok(())
}

fn write_names(host: Option<&Host>) -> io::Result<()> {
    fs::create_dir("/etc")?;
    fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
    let mut hosts = fs::File::create("/etc/hosts")?;
    if let Some(Host { name, .. }) = host
        && name.parse::<IpAddr>().is_err()
    {
        if name.contains(|character: char| character.is_whitespace() || character.is_control() || character == '#') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a host name"));
        }
        writeln!(hosts, "{} {name}", Ipv4Addr::LOCALHOST)?;
    }
    Ok(())
}

fn copy_bounded(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?.take(CA_LIMIT + 1);
    let mut copy = fs::File::create_new(to)?;
    if io::copy(&mut source, &mut copy)? > CA_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    copy.set_permissions(fs::Permissions::from_mode(0o444))
}

/// Returns the path of a host's file while the new root is being built.
fn outside(path: &OsStr) -> PathBuf {
    let mut outside = OsString::from(OUTSIDE);
    outside.push(path);
    outside.into()
}

/// Binds a directory of the host at `target`.
fn bind(source: &OsStr, target: &Path, read_only: MsFlags) -> io::Result<()> {
    fs::create_dir_all(target)?;
    mount(Some(outside(source).as_path()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    // A bind inherits its source's flags, and a user namespace may not clear them.
    let inherited = kept_flags(statvfs(target)?.flags());
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | SECURE | inherited | read_only;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// `ST_RELATIME` of `linux/statfs.h`, which `nix` defines only for glibc.
const ST_RELATIME: FsFlags = FsFlags::from_bits_retain(0x1000);

fn kept_flags(found: FsFlags) -> MsFlags {
    [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (ST_RELATIME, MsFlags::MS_RELATIME),
    ]
    .into_iter()
    .filter(|(flag, _)| found.contains(*flag))
    .map(|(_, flag)| flag)
    .collect()
}
