//! Fair shares: what one tenant's remote does costs another tenant neither its place nor its turn.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::Bounds;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::policy::Policy;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::testing::remote::Verb;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Gate;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::of_tenant;
use gitrepo_tests::volumes::read_only;
use tempfile::TempDir;

/// The places of the default configuration.
const PLACES: usize = 9;

/// How many fetches of one tenant from one host run at once.
const FETCHES_OF_ONE: usize = 4;

fn node(place: &TempDir) -> Node {
    let worker = Arc::new(InProcess::new(Arc::new(Git::default())));
    let gateway = Gateway::new(Policy::new(volumes::config()), worker).bounded(Bounds::new(PLACES));
    Node::with_gateway(place.path(), gateway, Arc::new(FakeMounter::new()))
}

/// Holds the first packs that clients ask for; later ones pass.
fn hold_packs(server: &HttpServer, count: usize) -> Gate {
    let asked = AtomicUsize::new(0);
    server.hold(move |request| request.is_upload_pack() && asked.fetch_add(1, Ordering::SeqCst) < count)
}

fn is_fetched(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Fetched { .. })
}

/// Waits for what other threads do.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        thread::yield_now();
    }
}

#[test]
fn s27_a_fetch_that_hangs_holds_up_no_other_commit_of_its_repository() {
    let (repository, main) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = node(&place);
    let url = server.url(&repository);
    let next = repository.commit("next", &Files::new().file("next", "next\n"));
    let gate = hold_packs(&server, 1);
    let [hanging, going] = [("hanging", "main"), ("going", "next")]
        .map(|(pod, revision)| at(read_only(&url, &node.target(pod)), revision));
    thread::scope(|scope| {
        let hung = scope.spawn(|| node.publish(&hanging));
        gate.wait_for(1);
        assert!(is_fetched(node.publish(&going).unwrap().outcome));
        assert_same_tree(&repository, &next, ".", &node.shown(&going.target));
        gate.open();
        assert!(is_fetched(hung.join().unwrap().unwrap().outcome));
    });
    assert_same_tree(&repository, &main, ".", &node.shown(&hanging.target));
    assert_eq!(server.packs(), 2);

    // The repository in the store is that of the first fetch, and later ones build on it.
    let last = repository.commit("main", &Files::new().file("last", "last\n"));
    let later = at(read_only(&url, &node.target("later")), "main");
    assert!(is_fetched(node.publish(&later).unwrap().outcome));
    assert_same_tree(&repository, &last, ".", &node.shown(&later.target));
    for request in [&hanging, &going, &later] {
        node.unpublish(request);
    }
    node.assert_nothing_published();
}

/// Eight pods of another tenant fetch the commit once more, and the first tenant's other pod gets it from them.
#[test]
fn s26_a_fetch_that_hangs_for_one_tenant_holds_up_no_other_tenant_of_the_url() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = node(&place);
    let request = |tenant: &str, pod: &str| of_tenant(read_only(&server.url(&repository), &node.target(pod)), tenant);
    let gate = hold_packs(&server, 1);
    let hanging = request("hostile", "hanging");
    let others: Vec<_> = (0..8).map(|pod| request("other", &format!("pod-{pod}"))).collect();
    let second = request("hostile", "second");
    thread::scope(|scope| {
        let hung = scope.spawn(|| node.publish(&hanging));
        gate.wait_for(1);
        let going: Vec<_> = others
            .iter()
            .chain([&second])
            .map(|request| {
                let node = &node;
                scope.spawn(move || node.publish(request).unwrap().outcome)
            })
            .collect();
        let outcomes: Vec<_> = going.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|outcome| is_fetched(**outcome)).count(), 1, "{outcomes:?}");
        assert!(!is_fetched(outcomes[others.len()]), "the second pod of the tenant that hangs");
        assert_eq!(server.packs(), 1);
        gate.open();
        hung.join().unwrap().unwrap();
    });
    for request in others.iter().chain([&second, &hanging]) {
        assert_same_tree(&repository, &commit, ".", &node.shown(&request.target));
        node.unpublish(request);
    }
    assert_eq!(node.snapshots().len(), 1);
    node.assert_nothing_published();
}

/// The remote answers a question of one tenant never, and of another one at once. They share the credential: none.
#[test]
fn s26_a_question_that_hangs_for_one_tenant_holds_up_no_other_tenant_of_the_url() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let node = node(&place);
    let request = |tenant: &str, pod: &str| of_tenant(read_only(&server.url(&repository), &node.target(pod)), tenant);
    let asked = AtomicUsize::new(0);
    let gate = server.hold(move |request| request.is_info_refs() && asked.fetch_add(1, Ordering::SeqCst) == 0);
    let (hanging, going) = (request("hostile", "hanging"), request("other", "going"));
    thread::scope(|scope| {
        let hung = scope.spawn(|| node.publish(&hanging));
        gate.wait_for(1);
        assert!(is_fetched(node.publish(&going).unwrap().outcome));
        gate.open();
        assert_eq!(hung.join().unwrap().unwrap().outcome, Outcome::Hit);
    });
}

#[test]
fn s26_fetches_that_hang_leave_places_for_a_hit_that_asks_and_for_other_tenants() {
    let (repository, _) = fixtures::small();
    let hung: Vec<_> = (0..20).map(|number| format!("hung-{number}.git")).collect();
    let paths = hung.iter().map(String::as_str).chain(["cached.git", "other.git"]);
    let server = paths.fold(HttpServer::builder(), |server, path| server.serve_at(path, &repository)).start();
    let place = TempDir::new().unwrap();
    let node = node(&place);
    let request =
        |path: &str, tenant: &str, pod: &str| of_tenant(read_only(&server.url_at(path), &node.target(pod)), tenant);
    node.publish(&request("cached.git", "hostile", "first")).unwrap();

    let gate = server.hold(|request| request.is_upload_pack() && request.path.starts_with("/hung-"));
    let hanging: Vec<VolumeRequest> = hung.iter().map(|path| request(path, "hostile", path)).collect();
    let sessions = || node.volumes.snapshots().gateway().sessions();
    thread::scope(|scope| {
        let publishing: Vec<_> = hanging
            .iter()
            .map(|request| {
                let node = &node;
                scope.spawn(move || node.publish(request).unwrap())
            })
            .collect();
        gate.wait_for(FETCHES_OF_ONE);
        until("the others wait for a place to fetch", || sessions().queued == hanging.len() - FETCHES_OF_ONE);
        assert_eq!(sessions().active, FETCHES_OF_ONE);

        // Another credential, so that the remote is asked.
        let asking = request("cached.git", "hostile", "asking");
        let asked = node.publish_as(&asking, &volumes::token(Some("t0k3n"))).unwrap();
        assert_eq!(asked.outcome, Outcome::Hit);
        let missing = request("other.git", "other", "missing");
        assert!(is_fetched(node.publish(&missing).unwrap().outcome));
        assert_eq!((gate.arrived(), sessions().queued), (FETCHES_OF_ONE, hanging.len() - FETCHES_OF_ONE));
        gate.open();
        for thread in publishing {
            assert!(is_fetched(thread.join().unwrap().outcome));
        }
    });
    assert_eq!((sessions().active, sessions().queued), (0, 0));
}

#[test]
fn s26_a_remote_that_was_too_slow_is_not_asked_again_at_once_for_its_tenant() {
    let url = RepositoryUrl::parse("http://127.0.0.1/app.git").unwrap();
    let remote = FakeRemote::of_one(&url);
    let place = TempDir::new().unwrap();
    let worker = Arc::new(InProcess::new(Arc::new(remote.clone())));
    let node = Node::new(place.path(), volumes::config(), worker, Arc::new(FakeMounter::new()));
    let target = |pod: &str| -> PathBuf { node.target(pod) };
    let request = |tenant: &str, pod: &str| of_tenant(read_only(&url.to_string(), &target(pod)), tenant);
    let slow = RemoteError::TooSlow { url: url.to_string(), rate: 1024, phase: "sending a pack".to_owned() };
    remote.fail(Verb::Fetch, slow);
    let refused = node.publish(&request("slow", "first")).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(chain(&refused).contains("limits.minimumRate"), "{}", chain(&refused));

    let connected = remote.count(Verb::Connect);
    let held_back = node.publish(&request("slow", "second")).unwrap_err();
    assert_eq!(held_back.kind(), Kind::Unavailable);
    assert!(chain(&held_back).contains("was too slow, and is asked again in"), "{}", chain(&held_back));
    assert_eq!(remote.count(Verb::Connect), connected);
    assert!(is_fetched(node.publish(&request("other", "third")).unwrap().outcome));
    // A fresh proof, and the store has the commit: nothing has to be asked.
    let hit = node.publish(&at(request("slow", "fourth"), &commit_of(&node, "third"))).unwrap();
    assert_eq!(hit.outcome, Outcome::Hit);
}

/// The commit that a target shows.
fn commit_of(node: &Node, pod: &str) -> String {
    let records = node.volumes.store().records().unwrap();
    let shown = records.into_iter().find(|record| record.target == node.target(pod));
    shown.expect("a record").commit.to_string()
}
