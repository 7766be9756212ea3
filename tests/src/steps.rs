//! Stops a program, or lets it fail, at any step that changes files, names or mounts.
//!
//! A step is one of the system calls listed here, and the program is the one that is installed: it contains nothing for
//! tests. The kernel asks this process before each step (seccomp_unotify(2)).

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;

use crate::program::Outcome;
use crate::program::Running;
use crate::sys;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The program is killed before it.
    Kill,
    /// It fails with this error, without any effect.
    Fail(Errno),
}

/// A step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    call: &'static str,
    object: String,
}

/// A program that ran to its end, or to the step of its fault.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// Its steps, without those of its workers.
    pub steps: Vec<Step>,
}

/// Where a call has what it changes.
#[derive(Clone, Copy)]
enum Object {
    /// An argument with a path.
    Path(usize),
    /// An argument with a descriptor.
    Descriptor(usize),
    /// An argument with a descriptor, which is a step only if it is that of a regular file.
    File(usize),
}

/// The calls that are steps. Of calls that open a file, only those that may create or truncate one.
const CALLS: &[(&str, libc::c_long, Object)] = &[
    ("copy_file_range", libc::SYS_copy_file_range, Object::Descriptor(2)),
    ("fchmod", libc::SYS_fchmod, Object::Descriptor(0)),
    ("fchmodat", libc::SYS_fchmodat, Object::Path(1)),
    ("fchown", libc::SYS_fchown, Object::Descriptor(0)),
    ("fchownat", libc::SYS_fchownat, Object::Path(1)),
    ("fdatasync", libc::SYS_fdatasync, Object::Descriptor(0)),
    ("fallocate", libc::SYS_fallocate, Object::Descriptor(0)),
    ("fsmount", libc::SYS_fsmount, Object::Descriptor(0)),
    ("fsync", libc::SYS_fsync, Object::Descriptor(0)),
    ("ftruncate", libc::SYS_ftruncate, Object::Descriptor(0)),
    ("linkat", libc::SYS_linkat, Object::Path(3)),
    ("mkdirat", libc::SYS_mkdirat, Object::Path(1)),
    ("mount", libc::SYS_mount, Object::Path(1)),
    ("mount_setattr", libc::SYS_mount_setattr, Object::Descriptor(0)),
    ("move_mount", libc::SYS_move_mount, Object::Descriptor(2)),
    ("open_tree", libc::SYS_open_tree, Object::Descriptor(0)),
    ("openat", libc::SYS_openat, Object::Path(1)),
    ("pwrite", libc::SYS_pwrite64, Object::File(0)),
    ("renameat2", libc::SYS_renameat2, Object::Path(3)),
    ("sendfile", libc::SYS_sendfile, Object::File(0)),
    ("symlinkat", libc::SYS_symlinkat, Object::Path(2)),
    ("syncfs", libc::SYS_syncfs, Object::Descriptor(0)),
    ("umount", libc::SYS_umount2, Object::Path(0)),
    ("unlinkat", libc::SYS_unlinkat, Object::Path(1)),
    ("utimensat", libc::SYS_utimensat, Object::Path(1)),
    ("write", libc::SYS_write, Object::File(0)),
    ("writev", libc::SYS_writev, Object::File(0)),
];

/// Older calls of the same effect, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[(&str, libc::c_long, Object)] = &[
    ("chmod", libc::SYS_chmod, Object::Path(0)),
    ("chown", libc::SYS_chown, Object::Path(0)),
    ("lchown", libc::SYS_lchown, Object::Path(0)),
    ("link", libc::SYS_link, Object::Path(1)),
    ("mkdir", libc::SYS_mkdir, Object::Path(0)),
    ("open", libc::SYS_open, Object::Path(0)),
    ("rename", libc::SYS_rename, Object::Path(1)),
    ("renameat", libc::SYS_renameat, Object::Path(3)),
    ("rmdir", libc::SYS_rmdir, Object::Path(0)),
    ("symlink", libc::SYS_symlink, Object::Path(1)),
    ("unlink", libc::SYS_unlink, Object::Path(0)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[(&str, libc::c_long, Object)] = &[];

/// Whether this kernel asks another process about system calls. No other program may do the same with this one.
pub fn available() -> bool {
    let allow = libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap(),
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    // A filter cannot be removed, so it gets its own thread.
    thread::spawn(move || sys::listen(&mut [allow]).is_ok()).join().unwrap()
}

/// Runs a program to its end, and lets happen at each step what `decide` returns, if anything. It gets the step and the
/// number of steps before.
pub fn run(command: &mut Command, decide: impl FnMut(&Step, usize) -> Option<Fault> + Send) -> Run {
    let (listeners, listener) = mpsc::channel();
    let (programs, program) = mpsc::channel();
    thread::scope(|scope| {
        let steps = scope.spawn(move || match listener.recv() {
            Ok(listener) => watch(&listener, &program, decide),
            Err(_) => Vec::new(),
        });
        // A filter cannot be removed, so it gets its own thread. If that fails, it drops what the other thread waits for.
        let spawn = move || {
            listeners.send(sys::listen(&mut filter()).expect("seccomp notifies")).unwrap();
            let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
            let running = Running::new(child);
            programs.send(running.id()).unwrap();
            running
        };
        let running = scope.spawn(spawn).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Run { outcome: running.wait(), steps: steps.join().unwrap() }
    })
}

/// Decides on every call until no process with the filter is left.
fn watch(
    listener: &OwnedFd,
    program: &mpsc::Receiver<u32>,
    mut decide: impl FnMut(&Step, usize) -> Option<Fault>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut known = None;
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled.unwrap(),
        };
        if !ready[0].revents().unwrap_or(PollFlags::empty()).contains(PollFlags::POLLIN) {
            return steps;
        }
        let call = match sys::receive(listener.as_fd()) {
            // It was killed meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => continue,
            call => call.unwrap(),
        };
        let process = process_of(call.pid);
        // This process itself starts the program, and the program may have begun before its id is known.
        if known.is_none() && !process.is_none_or(is_copy_of_this) {
            known = program.recv().ok();
        }
        let is_program = process.is_some() && process == known;
        let step = Step::of(&call).filter(|_| is_program);
        let fault = step.as_ref().and_then(|step| decide(step, steps.len()));
        steps.extend(step);
        let error = match fault {
            None => None,
            Some(Fault::Fail(errno)) => Some(errno),
            Some(Fault::Kill) => {
                kill(Pid::from_raw(call.pid.cast_signed()), Signal::SIGKILL).unwrap();
                continue;
            }
        };
        match sys::answer(listener.as_fd(), call.id, error) {
            // It was killed meanwhile.
            Err(Errno::ENOENT) => {}
            answered => answered.unwrap(),
        }
    }
}

/// Whether a process is this one, or a copy of it that has not begun the program yet, and may never begin it.
fn is_copy_of_this(process: u32) -> bool {
    let executable = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    executable(&process.to_string()).is_none_or(|its| Some(its) == executable("self"))
}

/// The process that a thread belongs to, if it is still there.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")).and_then(|id| id.trim().parse().ok())
}

fn filter() -> Vec<libc::sock_filter> {
    // Flags of `open` and `openat` are in their second and third argument.
    let creating = |argument| {
        let may = |flag: libc::c_int| {
            let flag = u64::from(flag.cast_unsigned());
            let has = SeccompCmpOp::MaskedEq(flag);
            SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, has, flag).unwrap()])
        };
        vec![may(libc::O_CREAT).unwrap(), may(libc::O_TRUNC).unwrap()]
    };
    let rules = CALLS.iter().chain(OLDER_CALLS).map(|(name, call, _)| match *name {
        "open" => (*call, creating(1)),
        "openat" => (*call, creating(2)),
        _ => (*call, Vec::new()),
    });
    // The library does not know notifications: another action stands for them.
    let stands_for = SeccompAction::Trace(0);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules.collect(), SeccompAction::Allow, stands_for.clone(), arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let stands_for = u32::from(stands_for);
    let returns = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
    let notify = |k| if k == stands_for { libc::SECCOMP_RET_USER_NOTIF } else { k };
    let instruction = |one: &seccompiler::sock_filter| libc::sock_filter {
        code: one.code,
        jt: one.jt,
        jf: one.jf,
        k: if one.code == returns { notify(one.k) } else { one.k },
    };
    program.iter().map(instruction).collect()
}

impl Step {
    /// `None` if the call changes nothing that lasts: it writes to a pipe or a socket.
    fn of(call: &libc::seccomp_notif) -> Option<Self> {
        let number = libc::c_long::from(call.data.nr);
        let (name, _, object) = CALLS.iter().chain(OLDER_CALLS).find(|(_, known, _)| *known == number)?;
        let descriptor = |argument: usize| {
            let link = format!("/proc/{}/fd/{}", call.pid, call.data.args[argument]);
            let object = fs::read_link(link).unwrap_or_else(|_| PathBuf::from("?"));
            object.to_string_lossy().into_owned()
        };
        let object = match *object {
            Object::Path(argument) => path_at(call.pid, call.data.args[argument]),
            Object::Descriptor(argument) => descriptor(argument),
            Object::File(argument) => Some(descriptor(argument)).filter(|object| is_file(object))?,
        };
        Some(Self { call: name, object })
    }

    /// The call and its object below `place`, without what is random in names: the same in each run.
    pub fn kind(&self, place: &Path) -> String {
        let object = self.object.strip_prefix(&*place.to_string_lossy()).unwrap_or(&self.object);
        let is_random = |word: &str| word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        let words = object.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()).map(|part| {
            let word = part.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            if !word.is_empty() && (is_random(word) || is_number(word)) { part.replace(word, "#") } else { part.into() }
        });
        format!("{} {}", self.call, words.collect::<String>())
    }

    /// Whether it deletes a name or a mount, for which a full disk has room.
    pub fn is_deletion(&self) -> bool {
        ["rmdir", "umount", "unlink", "unlinkat"].contains(&self.call)
    }

    /// Whether it only makes durable what was done before.
    pub fn is_sync(&self) -> bool {
        ["fsync", "fdatasync", "syncfs"].contains(&self.call)
    }
}

/// Whether a descriptor's link names a regular file, other than the kernel's own.
fn is_file(object: &str) -> bool {
    object.starts_with('/') && !["/dev", "/proc", "/sys"].iter().any(|place| Path::new(object).starts_with(place))
}

/// Reads a path in another process.
fn path_at(process: u32, address: u64) -> String {
    let mut bytes = [0; libc::PATH_MAX as usize];
    let read = fs::File::open(format!("/proc/{process}/mem")).and_then(|memory| memory.read_at(&mut bytes, address));
    let bytes = &bytes[..read.unwrap_or_default()];
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.object)
    }
}
