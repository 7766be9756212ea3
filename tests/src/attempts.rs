//! What a compromised worker would try.
//!
//! Every attempt succeeds without confinement. A test can show that by running the harmless ones unconfined, so an
//! attempt that fails in the worker fails because of the confinement.
#![allow(unsafe_code, reason = "the very system calls that no library offers are what is tried")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call gets numbers, or pointers to values that outlive it")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;

use nix::sys::resource::Resource;
use nix::sys::resource::setrlimit;
use serde::Deserialize;
use serde::Serialize;

/// What the worker needs to know about its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Surroundings {
    /// The job's own staging directory.
    pub staging: PathBuf,
    /// The job's own base repository.
    pub base: PathBuf,
    /// A file of the host that is readable for all.
    pub readable: PathBuf,
    /// A file of the host that is writable for all.
    pub writable: PathBuf,
    /// The listening address of the URL's host.
    pub pinned: (String, u16),
    /// Other listeners of the host.
    pub others: BTreeMap<String, SocketAddr>,
    /// A listening UDP socket of the host.
    pub udp: SocketAddr,
    /// Name of an abstract socket of the host.
    pub abstract_socket: String,
    /// The process that started the worker.
    pub parent: i32,
}

/// The outcomes of attempts: `None` for success.
pub type Outcomes = BTreeMap<String, Option<String>>;

/// Attempts that must succeed in every worker, or the others prove nothing.
pub fn controls(around: &Surroundings) -> Outcomes {
    run(vec![
        ("write in the staging directory", attempt(|| fs::write(around.staging.join("file"), "content"))),
        (
            "make a link in the staging directory",
            attempt(|| std::os::unix::fs::symlink("file", around.staging.join("link"))),
        ),
        ("make an executable in the staging directory", attempt(|| chmod(&around.staging.join("file"), 0o755))),
        ("read the base", attempt(|| fs::read(around.base.join("surroundings.json")).map(drop))),
        ("list the base", attempt(|| fs::read_dir(&around.base).map(drop))),
        ("reach the pinned host by its name", attempt(|| greeting(around))),
        ("start a thread", attempt(|| std::thread::Builder::new().name("git-odb".to_owned()).spawn(|| ()).map(drop))),
        ("have no environment", attempt(|| none_of(std::env::vars_os().count()))),
        ("have no arguments", attempt(|| none_of(std::env::args_os().count() - 1))),
        ("hold no descriptor but the parent's and the verifier's", attempt(foreign_descriptors)),
    ])
}

/// Attempts that must fail in every worker, and succeed for root outside of one.
pub fn forbidden_and_harmless(around: &Surroundings) -> Outcomes {
    let mut attempts = vec![
        ("read a file of the host", attempt(|| fs::read(&around.readable).map(drop))),
        ("list a directory of the host", attempt(|| fs::read_dir("/etc/init.d").map(drop))),
        ("write a file of the host", attempt(|| fs::write(&around.writable, "escaped"))),
        ("climb out of the staging directory", attempt(|| climb(&around.staging, &around.readable))),
        ("follow a link out of the staging directory", attempt(|| follow(&around.staging, &around.writable))),
        (
            "link a file of the base",
            attempt(|| fs::hard_link(around.base.join("surroundings.json"), around.staging.join("hard"))),
        ),
        ("write into the base", attempt(|| fs::write(around.base.join("new"), "escaped"))),
        (
            "make a directory at the root",
            attempt(|| fs::create_dir("/gitrepo-escaped").and_then(|()| fs::remove_dir("/gitrepo-escaped"))),
        ),
        ("read its own /proc", attempt(|| fs::read("/proc/self/status").map(drop))),
        ("read the parent's environment", attempt(|| fs::read(format!("/proc/{}/environ", around.parent)).map(drop))),
        ("read its program", attempt(|| fs::read("/proc/self/exe").map(drop))),
        ("open /dev/null", attempt(|| fs::File::open("/dev/null").map(drop))),
        ("make a device", attempt(|| mknod(&around.staging.join("device"), libc::S_IFCHR | 0o666))),
        ("make a pipe file", attempt(|| mknod(&around.staging.join("fifo"), libc::S_IFIFO | 0o666))),
        ("make a set-user-id file", attempt(|| chmod(&around.staging.join("file"), 0o4755))),
        ("create a set-user-id file", attempt(|| create(&around.staging.join("suid"), 0o4755))),
        ("give a file away", attempt(|| std::os::unix::fs::chown(around.staging.join("file"), Some(1), Some(1)))),
        ("set an extended attribute", attempt(|| setxattr(&around.staging.join("file")))),
        ("run a program", attempt(|| Command::new("/bin/true").status().map(drop))),
        ("fork", attempt(fork)),
        ("signal the parent", attempt(|| call(|| unsafe { libc::kill(around.parent, 0) }.into()))),
        ("signal everybody", attempt(|| call(|| unsafe { libc::kill(-1, 0) }.into()))),
        ("bind a port", attempt(|| TcpListener::bind("127.0.0.1:0").map(drop))),
        ("send a datagram", attempt(|| UdpSocket::bind("127.0.0.1:0")?.send_to(b"escaped", around.udp).map(drop))),
        ("reach an abstract socket of the host", attempt(|| abstract_socket(&around.abstract_socket))),
        ("open a netlink socket", attempt(|| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0))),
        ("open a packet socket", attempt(|| socket(libc::AF_PACKET, libc::SOCK_RAW, 0))),
        ("open a raw socket", attempt(|| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP))),
        ("make a memory file", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0) }))),
        ("make a key", attempt(key)),
        ("make code", attempt(executable_memory)),
        ("take shared memory", attempt(|| memory(libc::MAP_SHARED))),
        ("take memory that grows like a stack", attempt(|| memory(libc::MAP_PRIVATE | libc::MAP_GROWSDOWN))),
        ("have the kernel signal somebody", attempt(|| call(|| unsafe { libc::fcntl(0, libc::F_SETOWN, 0) }.into()))),
    ];
    for (name, address) in &around.others {
        attempts.push((name.as_str(), attempt(move || TcpStream::connect(address).map(drop))));
    }
    run(attempts)
}

/// Attempts that must fail in every worker, and would harm any process that may make them.
pub fn forbidden(around: &Surroundings) -> Outcomes {
    let flags = [
        ("enter a user namespace", libc::CLONE_NEWUSER),
        ("enter a mount namespace", libc::CLONE_NEWNS),
        ("enter a network namespace", libc::CLONE_NEWNET),
    ];
    let mut attempts = vec![
        ("become root", attempt(|| call(|| unsafe { libc::setresuid(0, 0, 0) }.into()))),
        ("become root's group", attempt(|| call(|| unsafe { libc::setresgid(0, 0, 0) }.into()))),
        ("take groups", attempt(|| call(|| unsafe { libc::setgroups(0, ptr::null()) }.into()))),
        ("mount", attempt(|| mount(c"tmpfs", &around.staging, libc::MS_NOSUID))),
        ("make the base writable", attempt(|| mount(c"", &around.base, libc::MS_REMOUNT | libc::MS_BIND))),
        ("unmount", attempt(|| call(|| unsafe { libc::umount2(c"/".as_ptr(), libc::MNT_DETACH) }.into()))),
        ("change the root", attempt(|| call(|| unsafe { libc::chroot(c"/".as_ptr()) }.into()))),
        ("trace the parent", attempt(|| call(|| unsafe { libc::ptrace(libc::PTRACE_ATTACH, around.parent, 0, 0) }))),
        ("be traced", attempt(|| call(|| unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }))),
        ("read the parent's memory", attempt(|| peek(around.parent))),
        ("raise a limit", attempt(|| raise(Resource::RLIMIT_NOFILE))),
        ("allow core dumps", attempt(|| raise(Resource::RLIMIT_CORE))),
        ("be dumpable", attempt(|| call(|| unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }.into()))),
        ("outlive the monitor", attempt(|| call(|| unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) }.into()))),
        ("load a BPF program", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) }))),
        ("use io_uring", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::null::<u8>()) }))),
        ("use userfaultfd", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_userfaultfd, 0) }))),
        ("count events", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0) }))),
        ("open by handle", attempt(|| call(|| unsafe { libc::syscall(libc::SYS_open_by_handle_at, 0, 0, 0) }))),
        ("name the host", attempt(|| call(|| unsafe { libc::sethostname(c"x".as_ptr(), 1) }.into()))),
    ];
    attempts.extend(flags.map(|(name, flag)| (name, attempt(move || call(|| unsafe { libc::unshare(flag) }.into())))));
    run(attempts)
}

type Attempt<'a> = Box<dyn FnOnce() -> io::Result<()> + 'a>;

fn attempt<'a>(attempt: impl FnOnce() -> io::Result<()> + 'a) -> Attempt<'a> {
    Box::new(attempt)
}

fn run(attempts: Vec<(&str, Attempt<'_>)>) -> Outcomes {
    attempts
        .into_iter()
        .map(|(name, attempt)| (name.to_owned(), attempt().err().map(|error| error.to_string())))
        .collect()
}

/// A system call that must be refused on entry: `EFAULT`, `EINVAL` and `EBADF` mean that the kernel entered it.
fn call(call: impl FnOnce() -> libc::c_long) -> io::Result<()> {
    if call() >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT | libc::EINVAL | libc::EBADF) => Ok(()),
        _ => Err(error),
    }
}

fn greeting(around: &Surroundings) -> io::Result<()> {
    let (host, port) = &around.pinned;
    let address = (host.as_str(), *port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut text = String::new();
    TcpStream::connect(address)?.read_to_string(&mut text)?;
    if text == "pinned" { Ok(()) } else { Err(io::Error::other(format!("somebody else: {text:?}"))) }
}

fn none_of(count: usize) -> io::Result<()> {
    if count == 0 { Ok(()) } else { Err(io::Error::other(format!("{count} of them"))) }
}

/// Fails if a descriptor is anything but a socket or, as standard output and error, the read end of a pipe.
fn foreign_descriptors() -> io::Result<()> {
    for number in 0..1024 {
        let (found, status) = unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            (libc::fstat(number, &raw mut status) == 0, status)
        };
        let kind = status.st_mode & libc::S_IFMT;
        let expected = match number {
            1 | 2 => {
                let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
                kind == libc::S_IFIFO && flags & libc::O_ACCMODE == libc::O_RDONLY
            }
            // The parent's socket, and the two pipes to the verifier.
            _ => kind == libc::S_IFSOCK || kind == libc::S_IFIFO,
        };
        if found && !expected {
            return Err(io::Error::other(format!("descriptor {number} has mode {:o}", status.st_mode)));
        }
    }
    Ok(())
}

fn climb(staging: &Path, target: &Path) -> io::Result<()> {
    let up: PathBuf = std::iter::repeat_n("..", 64).collect();
    fs::read(staging.join(up).join(target.strip_prefix("/").map_err(io::Error::other)?)).map(drop)
}

fn follow(staging: &Path, target: &Path) -> io::Result<()> {
    let link = staging.join("way-out");
    std::os::unix::fs::symlink(target, &link)?;
    fs::write(link, "escaped")
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn create(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path).map(drop)
}

fn mknod(path: &Path, mode: libc::mode_t) -> io::Result<()> {
    let path = c_path(path)?;
    call(|| unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(1, 3)) }.into())
}

fn setxattr(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    call(|| unsafe { libc::setxattr(path.as_ptr(), c"user.gitrepo".as_ptr(), c"x".as_ptr().cast(), 1, 0) }.into())
}

fn c_path(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn fork() -> io::Result<()> {
    let child = unsafe { libc::fork() };
    if child == 0 {
        unsafe { libc::_exit(0) }
    }
    call(|| child.into())?;
    call(|| unsafe { libc::waitpid(child, ptr::null_mut(), 0) }.into())
}

fn abstract_socket(name: &str) -> io::Result<()> {
    UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?).map(drop)
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    call(|| unsafe { libc::socket(family, kind, protocol) }.into())
}

fn key() -> io::Result<()> {
    const THREAD_KEYRING: libc::c_long = -1;
    call(|| unsafe {
        libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"gitrepo".as_ptr(), c"x".as_ptr(), 1, THREAD_KEYRING)
    })
}

fn executable_memory() -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let place =
        unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn memory(flags: libc::c_int) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let place = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags | libc::MAP_ANONYMOUS, -1, 0) };
    if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount(kind: &std::ffi::CStr, target: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let target = c_path(target)?;
    call(|| unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, ptr::null()) }.into())
}

fn peek(process: i32) -> io::Result<()> {
    let mut byte = 0_u8;
    let ours = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let theirs = libc::iovec { iov_base: 4096 as *mut libc::c_void, iov_len: 1 };
    call(|| unsafe { libc::process_vm_readv(process, &raw const ours, 1, &raw const theirs, 1, 0) } as libc::c_long)
}

fn raise(resource: Resource) -> io::Result<()> {
    Ok(setrlimit(resource, 1 << 16, 1 << 16)?)
}
