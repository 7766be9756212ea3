//! A node with further stores: each store has its own content; all share the node's proofs of access and limits.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Policy;
use gitrepo_core::policy::UidRange;
use gitrepo_core::remote::Git;
use gitrepo_core::store::Store;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::InProcess;
use gitrepo_core::worker::Worker;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::program;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use tempfile::TempDir;

/// The volumes of one store.
struct Kept {
    volumes: Volumes,
    pods: PathBuf,
}

impl Kept {
    fn new(store: Store, config: Config, worker: Arc<dyn Worker>, pods: &Path) -> Self {
        let gateway = Gateway::new(Policy::new(config), worker);
        let volumes = Volumes::new(store, gateway, Arc::new(FakeMounter::new()));
        std::fs::create_dir_all(pods).unwrap();
        Self { volumes, pods: pods.to_owned() }
    }

    fn publish(&self, pod: &str, url: &str, revision: &str, key: Option<&str>) -> Result<Published, PublishError> {
        let request = at(read_only(url, &self.pods.join(pod)), revision);
        self.volumes.publish(&request, &token(key), &Watch::default())
    }
}

/// The main store of a node and a further one, each opened as if by its own process.
fn stores(home: &Path) -> [Store; 2] {
    let open = || Store::open(&home.join("main")).unwrap();
    let further = Store::open_beside(&home.join("images"), &open()).unwrap();
    [open(), further]
}

fn two(home: &Path) -> [Kept; 2] {
    let mut number = 0;
    stores(home).map(|store| {
        number += 1;
        let worker = InProcess::new(Arc::new(Git::default()));
        Kept::new(store, volumes::config(), Arc::new(worker), &home.join(format!("pods-{number}")))
    })
}

#[test]
fn a_proof_in_one_store_is_valid_in_the_other_and_a_refusal_revokes_it_in_both() {
    let (repository, commit) = fixtures::small();
    let keys = ["one", "two"].map(Credential::Bearer);
    let server = HttpServer::builder().serve(&repository).accept(keys[0].clone()).accept(keys[1].clone()).start();
    let url = server.url(&repository);
    let place = TempDir::new().unwrap();
    let [main, further] = two(&place.path().canonicalize().unwrap());
    for store in [&main, &further] {
        let published = store.publish("first", &url, &commit, Some("one")).unwrap();
        assert!(matches!(published.outcome, Outcome::Fetched { .. }), "each store has its own content");
    }

    let asked = server.requests().len();
    assert_eq!(main.publish("second", &url, &commit, Some("two")).unwrap().outcome, Outcome::Hit);
    let proven = server.requests().len();
    assert!(proven > asked, "another credential needs its own proof");
    assert_eq!(further.publish("second", &url, &commit, Some("two")).unwrap().outcome, Outcome::Hit);
    assert_eq!(server.requests().len(), proven, "once for both stores");

    server.accept_only(&keys[..1]);
    let refused = further.publish("third", &url, "main", Some("two")).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthenticated, "{refused}");
    for store in [&main, &further] {
        let refused = store.publish("fourth", &url, &commit, Some("two")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unauthenticated, "{refused}");
        assert_eq!(store.publish("fourth", &url, &commit, Some("one")).unwrap().outcome, Outcome::Hit);
    }
    assert!(!place.path().join("images/.gitrepo/access").exists());
}

#[test]
fn a_further_store_is_private_and_leaves_existing_files_alone() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let home = place.path().canonicalize().unwrap();
    let images = home.join("images");
    // A leftover of the bash driver.
    let clone = images.join("git-example-com-app-git");
    std::fs::create_dir_all(clone.join("mnt")).unwrap();
    std::fs::write(clone.join("mnt/README.md"), "old").unwrap();
    std::fs::set_permissions(&images, PermissionsExt::from_mode(0o755)).unwrap();
    let [_main, further] = two(&home);
    further.publish("pod", &server.url(&repository), &commit, None).unwrap();
    assert_eq!(std::fs::read_to_string(clone.join("mnt/README.md")).unwrap(), "old");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&images), mode(&images.join(".gitrepo"))), (0o755, 0o700));
    assert_eq!(volumes::entries(&images.join(".gitrepo/snapshots")).len(), 1);
}

#[test]
fn workers_are_limited_per_node_and_not_per_store() {
    if !require::root("to give workers a uid") {
        return;
    }
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let place = TempDir::new().unwrap();
    let home = place.path().canonicalize().unwrap();
    let [main, further] = stores(&home);
    let mut config = volumes::config();
    config.worker.uids = UidRange::parse("64017-64017").unwrap();
    // They behave like workers of two processes.
    let worker = || Arc::new(Confined::new(&config.worker).with_program(program::executable("gitrepo-cli")));
    let main = Kept::new(main, config.clone(), worker(), &home.join("pods"));
    let mut hurried = config.clone();
    hurried.limits.timeout = Duration::from_secs(1);
    let further = Kept::new(further, hurried, worker(), &home.join("other-pods"));

    let gate = server.hold(Request::is_upload_pack);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| main.publish("pod", &url, &commit, None));
        gate.wait_for(1);
        let error = further.publish("pod", &url, &commit, None).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(error.to_string().contains("worker.uids"), "{error}");
        gate.open();
        fetching.join().unwrap().unwrap();
    });
}
