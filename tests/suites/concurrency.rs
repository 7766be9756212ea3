//! Many publishes at once: they share one fetch and one snapshot, and none waits for unrelated work.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::policy::Config;
use gitrepo_core::remote::Git;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Outcome;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::token;
use tempfile::TempDir;

const MANY: usize = 50;
/// The targets of one volume.
const TARGETS: usize = 12;

fn fake_node(place: &TempDir) -> Node {
    fake_node_with(place, volumes::config())
}

fn fake_node_with(place: &TempDir, config: Config) -> Node {
    let worker = InProcess::new(Arc::new(Git::default()));
    Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()))
}

/// A shell, and a server with a repository.
struct Scene {
    shell: Shell,
    server: HttpServer,
    repository: Repository,
    commit: String,
}

impl Scene {
    fn new() -> Option<Self> {
        let shell = Shell::new(64 << 20)?;
        let (repository, commit) = fixtures::small();
        let server = HttpServer::start(&repository);
        Some(Self { shell, server, repository, commit })
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    fn targets(&self, count: usize) -> Vec<PathBuf> {
        (0..count).map(|number| self.shell.target(&format!("pod-{number}"))).collect()
    }

    fn assert_shown_on(&self, target: &std::path::Path) {
        assert_eq!(self.shell.mounts_on(target), 1);
        assert_same_tree(&self.repository, &self.commit, ".", target);
    }
}

/// Returns the number of requests for a pack that one fetch makes.
fn requests_of_one_fetch() -> usize {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = fake_node(&place);
    node.publish(&read_only(&server.url(&repository), &node.target("pod"))).unwrap();
    assert_eq!(server.packs(), 1);
    server.upload_packs()
}

#[test]
fn fifty_processes_make_one_fetch_and_fifty_mounts() {
    let Some(scene) = Scene::new() else { return };
    let gate = scene.server.hold(|request| request.is_upload_pack());
    let targets = scene.targets(MANY);
    let mounting: Vec<_> =
        targets.iter().map(|target| scene.shell.spawn_mount(&scene.url(), target, &["--revision=main"])).collect();
    gate.wait_for(1);
    gate.open();
    for process in mounting {
        process.wait().assert_success();
    }
    targets.iter().for_each(|target| scene.assert_shown_on(target));
    assert_eq!(scene.server.packs(), 1);
    assert_eq!(scene.server.upload_packs(), requests_of_one_fetch());
    assert_eq!(volumes::entries(&scene.shell.store().join("snapshots")).len(), 1, "one snapshot on disk");

    let unmounting: Vec<_> = targets.iter().map(|target| scene.shell.spawn_unmount(target)).collect();
    for process in unmounting {
        process.wait().assert_success();
    }
    assert_eq!(scene.shell.leftovers(), [] as [PathBuf; 0]);
}

/// Each thread has its own credential and therefore asks the remote. The remote answers none before all fifty have
/// asked: threads that ran one after the other would never get there.
#[test]
fn fifty_threads_make_one_fetch_and_fifty_mounts() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = fake_node(&place);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        // Also opens if this block panics, so that the threads end before the test does.
        let gate = server.hold(Request::is_info_refs);
        let publishing: Vec<_> = (0..MANY)
            .map(|number| {
                let request = read_only(&server.url(&repository), &node.target(&format!("pod-{number}")));
                let (node, credentials) = (&node, token(Some(&number.to_string())));
                scope.spawn(move || node.publish_as(&request, &credentials).unwrap())
            })
            .collect();
        gate.wait_for(MANY);
        gate.open();
        publishing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(outcomes.iter().all(|published| published.commit.to_string() == commit));
    let fetched = outcomes.iter().filter(|published| matches!(published.outcome, Outcome::Fetched { .. })).count();
    assert_eq!((fetched, server.packs(), server.upload_packs()), (1, 1, requests_of_one_fetch()));
    assert_eq!((node.volumes.list().unwrap().len(), node.snapshots().len()), (MANY, 1));
}

#[test]
fn twenty_first_publishes_of_a_shared_volume_make_one_copy() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = fake_node(&place);
    let url = server.url(&repository);
    let pods: Vec<_> = (0..20).map(|pod| node.target(&format!("pod-{pod}"))).collect();
    std::thread::scope(|scope| {
        for target in &pods {
            let (node, url) = (&node, &url);
            scope.spawn(move || node.publish(&shared(url, "volume", target)).unwrap());
        }
    });
    assert_eq!((server.packs(), node.snapshots().len(), node.volumes.list().unwrap().len()), (1, 1, 20));
    let shown: BTreeSet<_> = pods.iter().map(|target| node.shown(target)).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_same_tree(&repository, &commit, ".", shown.first().unwrap());

    let first = &pods[0];
    std::fs::write(node.shown(first).join("written"), "by the pod").unwrap();
    std::thread::scope(|scope| {
        for target in &pods[1..] {
            let (node, url) = (&node, &url);
            scope.spawn(move || node.unpublish(&shared(url, "volume", target)));
        }
    });
    assert_eq!(std::fs::read_to_string(node.shown(first).join("written")).unwrap(), "by the pod");
    node.unpublish(&shared(&url, "volume", first));
    node.assert_nothing_published();
}

/// Twelve targets of one volume are published and unpublished, so that its copy is made, joined, left and removed at
/// every moment, while the branch moves and sweeps run. In every other round they wait for each other, once all show
/// the copy and again once none does, so that each such round has its own copy. A deadlock runs into the deadline and
/// fails the test.
#[test]
fn targets_of_a_shared_volume_are_added_and_removed_without_a_deadlock() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let mut config = volumes::config();
    // Every publish asks the remote for the branch's commit, even within a second.
    config.cache.access_ttl = Duration::ZERO;
    let node = fake_node_with(&place, config);
    let url = server.url(&repository);
    let patient = || Watch::until(Cancel::new().within(Duration::from_secs(240)));
    let (working, sweeps, commits) = (AtomicUsize::new(TARGETS), AtomicUsize::new(0), Mutex::default());
    let meeting = Meeting::of(TARGETS);
    std::thread::scope(|scope| {
        for pod in 0..TARGETS {
            let (node, url, working, meeting, repository) = (&node, &url, &working, &meeting, &repository);
            let commits: &Mutex<BTreeSet<_>> = &commits;
            scope.spawn(move || {
                let _done = Done(working);
                let request = shared(url, "volume", &node.target(&format!("pod-{pod}")));
                for round in 0..8 {
                    let published = node.volumes.publish(&request, &Credentials::none(), &patient()).unwrap();
                    let shown = node.shown(&request.target);
                    let note = |pod: usize| shown.join(format!("pod-{pod}-{round}"));
                    std::fs::write(note(pod), published.commit.to_string()).unwrap();
                    let commit_of = |pod| std::fs::read_to_string(note(pod)).unwrap();
                    if round % 2 == 0 {
                        meeting.meet();
                        assert!((0..TARGETS).all(|pod| commit_of(pod) == published.commit.to_string()), "one copy");
                        commits.lock().unwrap().insert(published.commit.to_string());
                    }
                    // In the other rounds, the branch moves while others join the copy of an older commit.
                    if pod == 0 {
                        repository.commit("main", &Files::new().file("README.md", format!("# {round}\n")));
                    }
                    // The other targets never remove the copy that this target shows.
                    assert_eq!(commit_of(pod), published.commit.to_string());
                    let cancel = patient().cancel;
                    node.volumes.unpublish(Some("volume"), &request.target, &cancel).unwrap();
                    if round % 2 == 0 {
                        meeting.meet();
                    }
                }
            });
        }
        scope.spawn(|| {
            while working.load(Ordering::SeqCst) > 0 {
                node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap();
                sweeps.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    assert_eq!(commits.into_inner().unwrap().len(), 4, "each round in which all met had its own copy");
    assert!(sweeps.into_inner() > 0, "a sweep ran meanwhile");
    node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap();
    node.assert_nothing_published();
}

/// A reusable barrier that panics when not all threads arrive in time.
struct Meeting {
    all: usize,
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    fn of(all: usize) -> Self {
        Self { all, arrived: Mutex::new(0), changed: Condvar::new() }
    }

    fn meet(&self) {
        let mut arrived = self.arrived.lock().unwrap();
        *arrived += 1;
        self.changed.notify_all();
        let enough = arrived.div_ceil(self.all) * self.all;
        let waited =
            self.changed.wait_timeout_while(arrived, Duration::from_secs(240), |arrived| *arrived < enough).unwrap();
        assert!(!waited.1.timed_out(), "{} of {enough} have arrived", *waited.0);
    }
}

/// Counts down when its thread ends, even by a panic.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn concurrent_mounts_of_one_target_mount_it_once() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.shell.target("pod");
    let mounting: Vec<_> = (0..8).map(|_| scene.shell.spawn_mount(&scene.url(), &target, &[])).collect();
    for process in mounting {
        process.wait().assert_success();
    }
    scene.assert_shown_on(&target);
    let unmounting: Vec<_> = (0..8).map(|_| scene.shell.spawn_unmount(&target)).collect();
    // The first one unmounts; the others are told that there is no such volume.
    let codes: Vec<_> = unmounting.into_iter().map(|process| process.wait().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(scene.shell.leftovers(), [] as [PathBuf; 0]);
}

#[test]
fn a_stalled_repository_does_not_delay_others() {
    let (stalled, other) = (fixtures::small().0, fixtures::small().0);
    let (slow, quick) = (HttpServer::start(&stalled), HttpServer::start(&other));
    let gate = slow.hold(|_| true);
    let place = TempDir::new().unwrap();
    let node = fake_node(&place);
    let waiting = read_only(&slow.url(&stalled), &node.target("waiting"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.publish(&waiting));
        gate.wait_for(1);
        let going = read_only(&quick.url(&other), &node.target("going"));
        assert!(matches!(node.publish(&going).unwrap().outcome, Outcome::Fetched { .. }));
        node.unpublish(&going);
        gate.open();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn cached_trees_are_served_while_their_repository_is_fetched() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = fake_node(&place);
    node.publish(&read_only(&server.url(&repository), &node.target("first"))).unwrap();
    let files = gitrepo_tests::repository::Files::new().file("new", "new\n");
    repository.commit("next", &files);
    let gate = server.hold(|request| request.is_upload_pack());
    std::thread::scope(|scope| {
        let fetching = at(read_only(&server.url(&repository), &node.target("fetching")), "next");
        let node = &node;
        let fetching = scope.spawn(move || node.publish(&fetching));
        gate.wait_for(1);
        for (pod, revision) in [("by-commit", commit.as_str()), ("by-branch", "refs/heads/main")] {
            let hit = at(read_only(&server.url(&repository), &node.target(pod)), revision);
            assert_eq!(node.publish(&hit).unwrap().outcome, Outcome::Hit, "{revision}");
        }
        gate.open();
        fetching.join().unwrap().unwrap();
    });
}

#[test]
fn a_waiting_mount_that_gives_up_does_not_stop_the_fetch() {
    let Some(scene) = Scene::new() else { return };
    let gate = scene.server.hold(|request| request.is_upload_pack());
    let [first, second] = ["first", "second"].map(|pod| scene.shell.target(pod));
    let fetching = scene.shell.spawn_mount(&scene.url(), &first, &[]);
    gate.wait_for(1);
    scene.shell.mount(&scene.url(), &second, &["--timeout=1s"]).assert_code(75);
    assert!(!second.exists() && gate.arrived() == 1);
    gate.open();
    fetching.wait().assert_success();
    scene.assert_shown_on(&first);
    assert_eq!(scene.server.packs(), 1);
}

#[test]
fn a_waiting_mount_takes_over_when_the_fetching_process_is_killed() {
    let Some(scene) = Scene::new() else { return };
    // Each process asks the remote itself, so the server sees when the second one has arrived.
    scene.shell.configure(r#"{"cache": {"reserveBytes": "0", "accessTtl": "0s"}}"#);
    let asking = scene.server.hold(|request| request.is_info_refs());
    asking.open();
    let gate = scene.server.hold(|request| request.is_upload_pack());
    let [first, second] = ["first", "second"].map(|pod| scene.shell.target(pod));
    let fetching = scene.shell.spawn_mount(&scene.url(), &first, &[]);
    gate.wait_for(1);
    let asked = asking.arrived();
    let joining = scene.shell.spawn_mount(&scene.url(), &second, &[]);
    asking.wait_for(asked + 1);
    assert!(!fetching.kill().status.success());
    gate.wait_for(2);
    gate.open();
    joining.wait().assert_success();
    scene.assert_shown_on(&second);

    scene.shell.mount(&scene.url(), &first, &[]).assert_success();
    for target in [first, second] {
        scene.shell.unmount(&target).assert_success();
    }
    scene.shell.run(&["sweep"]).assert_success();
    assert_eq!(scene.shell.leftovers(), [] as [PathBuf; 0]);
}
