//! What the kernel shows of a process to all others.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use nix::unistd::Pid;

/// The process `root` and all its descendants.
pub fn with_descendants(root: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let descends = |mut pid: u32| {
        while pid != root {
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        true
    };
    parents.keys().copied().filter(|pid| descends(*pid)).collect()
}

/// The processes that run this file, wherever their root is.
pub fn running(executable: &Path) -> Vec<u32> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let wanted = identity(executable);
    all().into_iter().filter(|pid| identity(Path::new(&format!("/proc/{pid}/exe"))) == wanted).collect()
}

/// Waits until a process, not necessarily our child, has exited.
pub fn wait_for_end(pid: u32) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    // A process that nobody has reaped stays as a zombie.
    while stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z")) {
        assert!(begun.elapsed() < PATIENCE, "process {pid} goes on");
        std::thread::yield_now();
    }
}

/// Arguments and environment of a process, separated by NULs; empty if it has exited.
pub fn arguments_and_environment(pid: u32) -> Vec<u8> {
    let directory = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| fs::read(directory.join(name)).unwrap_or_default();
    [read("cmdline"), read("environ")].concat()
}

/// The rights of one thread, from proc_pid_status(5). In sets of capabilities, bit `n` is capability `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// `CapEff` and `CapPrm`, which are equal in our programs.
    pub usable: [u64; 2],
    /// `CapBnd`: the most that running a program could add.
    pub bounding: u64,
    /// `CapInh` and `CapAmb`.
    pub inherited: [u64; 2],
    /// `NoNewPrivs`.
    pub no_new_privileges: bool,
}

/// The rights of each thread of a process.
pub fn rights(pid: u32) -> Vec<Rights> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may have exited since it was listed.
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok());
    let rights: Vec<_> = statuses.map(|status| rights_in(&status)).collect();
    assert!(!rights.is_empty(), "process {pid} has no threads");
    rights
}

fn rights_in(status: &str) -> Rights {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        u64::from_str_radix(value.unwrap_or_else(|| panic!("no {name} in {status}")).trim(), 16).unwrap()
    };
    Rights {
        usable: [field("CapEff"), field("CapPrm")],
        bounding: field("CapBnd"),
        inherited: [field("CapInh"), field("CapAmb")],
        no_new_privileges: field("NoNewPrivs") == 1,
    }
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that it ever had, as the kernel keeps it (`VmHWM`): with the pages of files that it has mapped.
    pub all: u64,
    /// What it has now without files (`RssAnon`).
    pub anonymous: u64,
}

impl Memory {
    /// `None` if the process has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_ascii_whitespace().next()?.parse().ok()
        };
        Some(Self { all: field("VmHWM")?, anonymous: field("RssAnon")? })
    }
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// State, parent and the following fields of proc_pid_stat(5); `None` if the process has exited.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may contain anything.
    let (_, fields) = line.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Whether a thread of this process is in a sleep of a given time, as between two tries.
pub fn sleeps(thread: Pid) -> bool {
    let call = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse::<libc::c_long>().ok());
    number.is_some_and(|number| [libc::SYS_clock_nanosleep, libc::SYS_nanosleep].contains(&number))
}
