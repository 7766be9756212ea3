//! The system calls that a worker may make: those of curl, OpenSSL, libssh2, libgit2, Rust's threads and a C library (glibc
//! or musl) that reads packs, writes files and speaks TCP. All others fail with `EPERM`.
//!
//! Excluded, whatever the kernel offers: starting programs and processes, namespaces and mounts, tracing, signals to
//! other processes, keys, BPF, `io_uring`, `userfaultfd`, devices, extended attributes, changes of owner, set-id bits,
//! memory that the limit does not count, and sockets other than TCP (and UDP, to resolve names without namespaces).

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use nix::libc::c_long;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;
use seccompiler::TargetArch;

use super::namespace::Entered;
use super::protocol::Role;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Installs the filter permanently, for this thread and those it starts later.
pub(super) fn restrict(entered: Entered, role: Role) -> io::Result<()> {
    let allowed = compile(allowed(entered, role)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    // `clone3` and `openat2` pass their arguments by pointer, which a filter cannot follow. If they fail as unknown, a
    // C library uses the older calls. Installed first, because the other filter forbids installing filters.
    let hidden = [libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new())).into_iter().collect();
    let hidden = compile(hidden, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    for filter in [hidden, allowed] {
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
    }
    Ok(())
}

fn compile(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> io::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, architecture).map_err(io::Error::other)?;
    filter.try_into().map_err(|error: seccompiler::BackendError| io::Error::other(error))
}

fn allowed(entered: Entered, role: Role) -> io::Result<Rules> {
    let plain = [MEMORY, THREADS, TIME, FILES, OLD_FILES].into_iter().flatten();
    let mut rules: Rules = plain.map(|call| (*call, Vec::new())).collect();
    // These calls are left to the other filter: of the two, the stricter one decides.
    rules.extend([libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new())));
    rules.extend(conditional(entered).map_err(io::Error::other)?);
    match role {
        Role::Receiver => {
            rules.extend(INTERNET.iter().map(|call| (*call, Vec::new())));
            rules.extend(sockets_and_names(entered).map_err(io::Error::other)?);
        }
        Role::Verifier => {
            // For its requests and replies: a socket that it was given, and no other address.
            rules.insert(libc::SYS_recvfrom, Vec::new());
            rules.insert(libc::SYS_sendto, vec![equal_pointer(4, 0).map_err(io::Error::other)?]);
            rules.insert(libc::SYS_mprotect, vec![none_set(2, libc::PROT_EXEC as u64).map_err(io::Error::other)?]);
        }
    }
    Ok(rules)
}

/// The calls with conditions that a connection needs.
fn sockets_and_names(entered: Entered) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = BTreeMap::from([
        // Connecting by sending would bypass Landlock's rules for ports.
        (libc::SYS_sendto, vec![none_set(3, libc::MSG_FASTOPEN as u64)?]),
        (libc::SYS_sendmsg, vec![none_set(2, libc::MSG_FASTOPEN as u64)?]),
        (libc::SYS_sendmmsg, vec![none_set(3, libc::MSG_FASTOPEN as u64)?]),
        (libc::SYS_setsockopt, socket_options(entered)?),
        (libc::SYS_socket, sockets(entered)?),
        // curl wakes its own wait over one. It leads nowhere else.
        (libc::SYS_socketpair, vec![equal(0, libc::AF_UNIX as u64)?]),
    ]);
    if !entered.namespaces {
        // Resolving a name may load a library. The answer comes over UDP, on a socket that musl binds.
        rules.extend([libc::SYS_mprotect, libc::SYS_bind].map(|call| (call, Vec::new())));
    }
    Ok(rules)
}

fn conditional(entered: Entered) -> Result<Rules, seccompiler::BackendError> {
    let own_process = u64::from(std::process::id());
    let mut rules = BTreeMap::from([
        // Threads, not processes: a single process leaves nothing behind.
        (libc::SYS_clone, vec![all_set(0, (libc::CLONE_VM | libc::CLONE_THREAD) as u64)?]),
        (libc::SYS_tgkill, vec![equal(0, own_process)?]),
        (libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA])?),
        // Allows reading limits, not setting them.
        (libc::SYS_prlimit64, vec![equal_pointer(2, 0)?]),
        (libc::SYS_ioctl, ioctls()?),
        (libc::SYS_fcntl, one_of(1, DESCRIPTOR_COMMANDS)?),
        (libc::SYS_mmap, mappings(entered)?),
        (libc::SYS_openat, openings(2)?),
        (libc::SYS_mkdirat, vec![none_set(2, SET_ID_BITS)?]),
        (libc::SYS_fchmod, vec![none_set(1, SET_ID_BITS)?]),
        (libc::SYS_fchmodat, vec![none_set(2, SET_ID_BITS)?]),
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.extend([
        (libc::SYS_open, openings(1)?),
        (libc::SYS_creat, vec![none_set(1, SET_ID_BITS)?]),
        (libc::SYS_mkdir, vec![none_set(1, SET_ID_BITS)?]),
        (libc::SYS_chmod, vec![none_set(1, SET_ID_BITS)?]),
    ]);
    if entered.namespaces {
        // The worker can execute none of its files anyway, so nothing maps code.
        rules.insert(libc::SYS_mprotect, vec![none_set(2, libc::PROT_EXEC as u64)?]);
        // musl's way to abort. All threads of this PID namespace are the worker's.
        rules.insert(libc::SYS_tkill, Vec::new());
    } else {
        // The first thread's id is the process id; other ids could belong to any process.
        rules.insert(libc::SYS_tkill, vec![equal(0, own_process)?]);
    }
    Ok(rules)
}

/// Set-user-id, set-group-id and sticky.
const SET_ID_BITS: u64 = 0o7000;

/// Allows opening files, but truncating them only for writing. Before Linux 6.2, Landlock sees it in no other case, and
/// a receiver without namespaces could empty what its verifier keeps. For the same reason there is no `truncate`.
fn openings(flags: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let kinds = [(libc::O_TRUNC, 0), (libc::O_ACCMODE, libc::O_WRONLY), (libc::O_ACCMODE, libc::O_RDWR)];
    let rule = |(mask, kind): (libc::c_int, libc::c_int)| {
        SeccompRule::new(vec![
            condition(flags, SeccompCmpOp::MaskedEq(mask as u64), kind as u64)?,
            condition(flags + 1, SeccompCmpOp::MaskedEq(SET_ID_BITS), 0)?,
        ])
    };
    kinds.into_iter().map(rule).collect()
}

/// The `fcntl` commands for descriptors. Others make the kernel send signals to any process of the same user.
const DESCRIPTOR_COMMANDS: &[libc::c_int] =
    &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// Allows files, and memory that `RLIMIT_DATA` counts: private, and not growing like a stack.
fn mappings(entered: Entered) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let of_kind = |mask: libc::c_int, kind: libc::c_int| {
        let mut conditions =
            vec![condition(3, SeccompCmpOp::MaskedEq((mask | libc::MAP_GROWSDOWN) as u64), kind as u64)?];
        if entered.namespaces {
            // As for `mprotect`.
            conditions.push(condition(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?);
        }
        SeccompRule::new(conditions)
    };
    Ok(vec![of_kind(libc::MAP_TYPE, libc::MAP_PRIVATE)?, of_kind(libc::MAP_ANONYMOUS, 0)?])
}

/// Options for keepalive and batching; without a network namespace, also those for resolving names.
fn socket_options(entered: Entered) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let connection = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    ];
    let names = [
        (libc::IPPROTO_IP, libc::IP_RECVERR),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    ];
    let names = names.into_iter().filter(|_| !entered.namespaces);
    let rule = |(level, option): (libc::c_int, libc::c_int)| {
        SeccompRule::new(vec![
            condition(1, SeccompCmpOp::Eq, level as u64)?,
            condition(2, SeccompCmpOp::Eq, option as u64)?,
        ])
    };
    connection.into_iter().chain(names).map(rule).collect()
}

/// Allows TCP; without a network namespace, also what resolving names needs. Nothing that resembles TCP: Landlock's
/// rules for ports do not cover MPTCP and SCTP.
fn sockets(entered: Entered) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    /// The argument also contains `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
    const TYPE: u64 = 0xf;
    let stream = [(libc::SOCK_STREAM, 0), (libc::SOCK_STREAM, libc::IPPROTO_TCP)];
    let datagram = [(libc::SOCK_DGRAM, 0), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    let kinds = stream.into_iter().chain(datagram.into_iter().filter(|_| !entered.namespaces));
    let rule = |(family, (kind, protocol)): (libc::c_int, (libc::c_int, libc::c_int))| {
        SeccompRule::new(vec![
            condition(0, SeccompCmpOp::Eq, family as u64)?,
            condition(1, SeccompCmpOp::MaskedEq(TYPE), kind as u64)?,
            condition(2, SeccompCmpOp::Eq, protocol as u64)?,
        ])
    };
    kinds.flat_map(|kind| [(libc::AF_INET, kind), (libc::AF_INET6, kind)]).map(rule).collect()
}

fn ioctls() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    // Their type differs between C libraries.
    let calls = [libc::FIONBIO as u32, libc::FIONREAD as u32, libc::FIOCLEX as u32, libc::TCGETS as u32];
    calls.iter().map(|call| equal(1, u64::from(*call))).collect()
}

fn one_of(argument: u8, values: &[libc::c_int]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.iter().map(|value| equal(argument, *value as u64)).collect()
}

fn equal(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::Eq, value)?])
}

fn equal_pointer(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)?])
}

fn all_set(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::MaskedEq(bits), bits)?])
}

fn none_set(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::MaskedEq(bits), 0)?])
}

/// Tests the lower half of an argument, all that the kernel reads of an `int`.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

const MEMORY: &[c_long] =
    &[libc::SYS_brk, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_mremap, libc::SYS_msync, libc::SYS_munmap];

const THREADS: &[c_long] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

const TIME: &[c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_times,
];

const FILES: &[c_long] = &[
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Calls that newer architectures lack and C libraries still make on this one.
#[cfg(target_arch = "x86_64")]
const OLD_FILES: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
];
/// `renameat`, which C libraries still use on AArch64 and the `libc` crate does not define there.
#[cfg(not(target_arch = "x86_64"))]
const OLD_FILES: &[c_long] = &[38];

const INTERNET: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
];

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 2] = [Role::Receiver, Role::Verifier];

    #[test]
    fn all_filters_compile() {
        for (namespaces, role) in [true, false].into_iter().flat_map(|namespaces| ROLES.map(|role| (namespaces, role)))
        {
            let rules = allowed(Entered { namespaces, own_uid: namespaces }, role).unwrap();
            assert!(!rules.contains_key(&libc::SYS_execve));
            let program = compile(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow).unwrap();
            assert!(program.len() < 4096, "the kernel takes no more");
        }
    }

    #[test]
    fn a_file_is_truncated_only_through_a_descriptor_for_writing() {
        use nix::errno::Errno;
        use nix::fcntl::OFlag;
        use nix::sys::stat::Mode;

        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let held = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict(Entered { namespaces: false, own_uid: false }, Role::Receiver).unwrap();
            let open = |flags| nix::fcntl::open(&path, flags | OFlag::O_CLOEXEC, Mode::empty()).map(drop);
            assert_eq!(nix::unistd::truncate(&path, 0), Err(Errno::EPERM));
            assert_eq!(open(OFlag::O_RDONLY), Ok(()));
            for mode in [OFlag::O_WRONLY, OFlag::O_RDWR] {
                assert_eq!((open(mode), open(mode | OFlag::O_TRUNC)), (Ok(()), Ok(())));
            }
            for mode in [OFlag::O_RDONLY, OFlag::O_ACCMODE] {
                assert_eq!(open(mode | OFlag::O_TRUNC), Err(Errno::EPERM));
            }
        });
        held.join().unwrap();
    }

    #[test]
    fn only_tcp_works_and_only_to_the_connected_peer() {
        use nix::errno::Errno;
        use nix::sys::socket::*;

        // In threads, since a filter applies to the thread that installs it.
        for namespaces in [true, false] {
            let held = std::thread::spawn(move || {
                nix::sys::prctl::set_no_new_privs().unwrap();
                restrict(Entered { namespaces, own_uid: namespaces }, Role::Receiver).unwrap();
                let open = |kind, protocol: Option<SockProtocol>| {
                    socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, protocol)
                };
                let stream = open(SockType::Stream, Some(SockProtocol::Tcp)).unwrap();
                setsockopt(&stream, sockopt::TcpNoDelay, &true).unwrap();
                assert_eq!(setsockopt(&stream, sockopt::ReuseAddr, &true), Err(Errno::EPERM));
                assert!(open(SockType::Stream, None).is_ok());
                // Like every other protocol, but this one is known to be missing in every kernel.
                assert_eq!(open(SockType::Stream, Some(SockProtocol::Udp)).unwrap_err(), Errno::EPERM);
                assert_eq!(open(SockType::Datagram, Some(SockProtocol::Udp)).is_ok(), !namespaces);
                let nobody = SockaddrIn::new(127, 0, 0, 1, 1);
                let fast = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&stream);
                assert_eq!(sendto(descriptor, b"x", &nobody, fast), Err(Errno::EPERM));
                assert_eq!(sendmsg(descriptor, &[], &[], fast, Some(&nobody)), Err(Errno::EPERM));
            });
            held.join().unwrap();
        }
    }

    #[test]
    fn a_verifier_has_no_sockets() {
        use nix::errno::Errno;
        use nix::sys::socket::*;

        for namespaces in [true, false] {
            let held = std::thread::spawn(move || {
                let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                let address = SockaddrStorage::from(address);
                let before = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
                nix::sys::prctl::set_no_new_privs().unwrap();
                restrict(Entered { namespaces, own_uid: namespaces }, Role::Verifier).unwrap();
                for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Unix, AddressFamily::Netlink] {
                    for kind in [SockType::Stream, SockType::Datagram] {
                        assert_eq!(socket(family, kind, SockFlag::empty(), None).unwrap_err(), Errno::EPERM);
                    }
                }
                let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty());
                assert_eq!(pair.unwrap_err(), Errno::EPERM);
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&before);
                assert_eq!(connect(descriptor, &address), Err(Errno::EPERM));
                assert_eq!(bind(descriptor, &address), Err(Errno::EPERM));
                assert_eq!(sendto(descriptor, b"x", &address, MsgFlags::empty()), Err(Errno::EPERM));
            });
            held.join().unwrap();
        }
    }
}
