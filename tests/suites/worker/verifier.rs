//! The process that verifies what is fetched: when it is there, what it may do, and how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Gate;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::process;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Rooms;
use super::ending::workers_of;
use super::program;

/// The uid of all verifiers: the last one of the default range.
const UID: u32 = 65_531;

/// A process that fetches, from a server that holds back the pack.
struct Fetching {
    parent: Child,
    rooms: Rooms,
    pack: Gate,
    _server: HttpServer,
    _repository: Repository,
}

impl Fetching {
    /// Also returns the number of its processes while the remote is asked for its refs alone.
    fn start() -> (Self, usize) {
        let (repository, _) = fixtures::small();
        let server = HttpServer::start(&repository);
        let (refs, pack) = (server.hold(Request::is_info_refs), server.hold(Request::is_upload_pack));
        let rooms = Rooms::new();
        let parent = Command::new(program())
            .arg("fetch")
            .arg(rooms.path())
            .arg(server.url(&repository))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        refs.wait_for(1);
        let before = workers_of(parent.id()).len();
        refs.open();
        pack.wait_for(1);
        (Self { parent, rooms, pack, _server: server, _repository: repository }, before)
    }

    /// Waits until the verifier is confined. Returns the monitor and the worker of the receiver, then the verifier's.
    fn workers(&self) -> [u32; 4] {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Ok(workers) = <[u32; 4]>::try_from(workers_of(self.parent.id()))
                && fs::read_to_string(format!("/proc/{}/status", workers[3])).is_ok_and(is_filtered)
            {
                return workers;
            }
            std::thread::yield_now();
        }
        panic!("no verifier was started: {:?}", workers_of(self.parent.id()));
    }

    /// Lets the server go on. Returns whether the fetch succeeded, and what the parent printed.
    fn finish(mut self) -> (bool, String) {
        self.pack.open();
        let mut printed = String::new();
        self.parent.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.parent.wait().unwrap().success(), printed)
    }
}

/// Whether a process has both filters of system calls, which is the last step of its confinement.
fn is_filtered(status: String) -> bool {
    status.lines().any(|line| line == "Seccomp_filters:\t2")
}

fn proc(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

#[test]
fn s19_a_verifier_has_no_network_and_no_rights() {
    if !require::root("to give workers uids") {
        return;
    }
    let (fetching, before) = Fetching::start();
    assert_eq!(before, 2, "no verifier is started before the fetch");
    let [_, receiver, _, verifier] = fetching.workers();

    for rights in process::rights(verifier) {
        assert_eq!((rights.usable, rights.bounding, rights.inherited), ([0; 2], 0, [0; 2]));
        assert!(rights.no_new_privileges);
    }
    let status = fs::read_to_string(proc(verifier, "status")).unwrap();
    for ids in ["Uid", "Gid"] {
        assert!(status.contains(&format!("{ids}:\t{UID}\t{UID}\t{UID}\t{UID}\n")), "{status}");
    }
    for namespace in ["mnt", "pid", "ipc", "net", "uts"] {
        let of = |pid: u32| fs::read_link(proc(pid, &format!("ns/{namespace}"))).unwrap();
        assert!(of(verifier) != of(receiver) && of(verifier) != of(std::process::id()), "{namespace}");
    }
    let network = fs::read_to_string(proc(verifier, "net/dev")).unwrap();
    let devices: Vec<_> = network.lines().skip(2).map(|line| line.split(':').next().unwrap().trim()).collect();
    assert_eq!(devices, ["lo"]);
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let sockets = fs::read_to_string(proc(verifier, &format!("net/{protocol}"))).unwrap();
        assert_eq!(sockets.lines().count(), 1, "{sockets}");
    }
    // The parent's socket and the monitor's, the pipes of the stream, and the standard streams.
    let open = fs::read_dir(proc(verifier, "fd")).unwrap().map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let open: Vec<_> = open.map(|target| target.display().to_string()).collect();
    assert!(open.iter().all(|target| target.starts_with("socket:") || target.starts_with("pipe:")), "{open:?}");
    assert_eq!(
        open.iter().filter(|target| target.starts_with("socket:")).collect::<BTreeSet<_>>().len(),
        2,
        "{open:?}"
    );

    let names = |pid: u32| -> BTreeSet<String> {
        let entries = fs::read_dir(proc(pid, "root/.gitrepo")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(verifier), ["staging".to_owned()].into());
    assert_eq!(names(receiver), ["kept", "staging"].map(str::to_owned).into());
    let mounts = fs::read_to_string(proc(receiver, "mountinfo")).unwrap();
    let kept = mounts.lines().find(|line| line.contains(" /.gitrepo/kept ")).unwrap();
    assert!(kept.contains(" /.gitrepo/kept ro,"), "{kept}");

    let owner = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(fetching.rooms.staging().join(name)).unwrap().uid()
    };
    assert_eq!(owner("repository.git"), UID);
    assert_ne!(owner("received"), UID);
    let (fetched, printed) = fetching.finish();
    assert!(fetched, "{printed}");
}

#[test]
fn a_verifier_that_is_killed_fails_the_fetch() {
    if !require::root("to give workers uids") {
        return;
    }
    let (fetching, _) = Fetching::start();
    let workers = fetching.workers();
    kill(Pid::from_raw(workers[3].try_into().unwrap()), Signal::SIGKILL).unwrap();
    process::wait_for_end(workers[3]);
    let (fetched, printed) = fetching.finish();
    assert!(!fetched && printed.contains("Died") && printed.contains("memory runs out"), "{printed}");
    workers.into_iter().for_each(process::wait_for_end);
}

#[test]
fn r1_a_parent_killed_in_a_fetch_leaves_no_worker() {
    if !require::root("to give workers uids") {
        return;
    }
    for _ in 0..5 {
        let (mut fetching, _) = Fetching::start();
        let workers = fetching.workers();
        fetching.parent.kill().unwrap();
        fetching.parent.wait().unwrap();
        workers.into_iter().for_each(process::wait_for_end);
    }
}
