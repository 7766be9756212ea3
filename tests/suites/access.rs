//! No pod sees a tree that its own credential could not fetch, however much of it is in the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;
use gitrepo_core::error::Kind;
use gitrepo_core::policy::Config;
use gitrepo_core::remote::Git;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use tempfile::TempDir;

mod commits;
mod offline;
mod revisions;

const KEY: Credential = Credential::Bearer("key");

/// Another credential that the server accepts.
const OTHER: Credential = Credential::Bearer("other");

/// A node, and a private repository.
struct Scene {
    node: Node,
    server: HttpServer,
    repository: Repository,
    commit: String,
    place: TempDir,
    targets: AtomicUsize,
}

/// A pod's request, and its secret.
struct Pod {
    request: VolumeRequest,
    credentials: Credentials,
}

impl Scene {
    fn new() -> Self {
        Self::proving_for(Duration::from_secs(300))
    }

    /// Creates a scene with this `accessTtl`.
    fn proving_for(ttl: Duration) -> Self {
        Self::serving(|server, _| server, |config| config.cache.access_ttl = ttl)
    }

    /// Creates a scene whose server and configuration are changed. The server's change is told the commit.
    fn serving(
        server: impl FnOnce(HttpServerBuilder, &str) -> HttpServerBuilder,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (repository, commit) = fixtures::small();
        let server = server(HttpServer::builder().serve(&repository).accept(KEY), &commit).start();
        let place = TempDir::new().unwrap();
        let node = configured(&place, change);
        Self { node, server, repository, commit, place, targets: AtomicUsize::new(0) }
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// Creates a pod that requests `revision` with the token `key`.
    fn pod(&self, revision: &str, key: Option<&str>) -> Pod {
        Pod { request: at(read_only(&self.url(), &self.new_target()), revision), credentials: token(key) }
    }

    fn new_target(&self) -> PathBuf {
        self.node.target(&format!("pod-{}", self.targets.fetch_add(1, Ordering::Relaxed)))
    }

    /// Publishes a new volume.
    fn publish_new(&self, revision: &str, key: Option<&str>) -> Result<Published, PublishError> {
        self.publish(&self.pod(revision, key))
    }

    /// Restarts the driver with another `accessTtl`.
    fn restart(&mut self, ttl: Duration) {
        self.node = node(&self.place, ttl);
    }

    fn publish(&self, pod: &Pod) -> Result<Published, PublishError> {
        self.node.publish_as(&pod.request, &pod.credentials)
    }

    fn refused(&self, pod: &Pod) -> Kind {
        let error = self.publish(pod).unwrap_err();
        assert_eq!(self.node.mounts_on(&pod.request.target), 0);
        assert!(!pod.request.target.exists(), "{error}");
        error.kind()
    }
}

fn node(place: &TempDir, ttl: Duration) -> Node {
    configured(place, |config| config.cache.access_ttl = ttl)
}

/// A node with this store, as after a restart of the driver.
fn configured(place: &TempDir, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = volumes::config();
    change(&mut config);
    let worker = InProcess::new(Arc::new(Git::default()));
    Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()))
}

#[test]
fn a_cached_private_tree_is_refused_to_credentials_that_could_not_fetch_it() {
    let scene = Scene::new();
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    for revision in ["HEAD", "main", &scene.commit] {
        for wrong in [None, Some("wrong"), Some("ke"), Some("KEY")] {
            assert_eq!(scene.refused(&scene.pod(revision, wrong)), Kind::Unauthenticated, "{revision} {wrong:?}");
        }
    }
    let hit = scene.publish(&scene.pod(&scene.commit, Some("key"))).unwrap();
    assert_eq!(hit.outcome, Outcome::Hit);
}

#[test]
fn no_spelling_of_the_url_bypasses_the_proof() {
    let scene = Scene::new();
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    let port = scene.server.port();
    let spellings = [
        scene.url(),
        scene.url().replace(".git", ""),
        format!("{}/", scene.url()),
        scene.url().to_uppercase().replace("HTTP", "http"),
        scene.url().replace("small", "Small"),
        format!("HTTP://127.0.0.1:{port}/small.git"),
        format!("http://127.0.0.1:0{port}/small.git"),
        format!("http://somebody@127.0.0.1:{port}/small.git"),
        format!("http://127.0.0.1:{port}//small.git"),
        format!("http://127.0.0.1:{port}/sm%61ll.git"),
        format!("http://localhost:{port}/small.git"),
    ];
    let mut refusals = 0;
    for spelling in &spellings {
        for revision in ["main", &scene.commit] {
            for wrong in [None, Some("wrong")] {
                let mut pod = scene.pod(revision, wrong);
                pod.request.spec.repository = RepositoryUrl::parse(spelling).unwrap();
                assert_eq!(scene.refused(&pod), Kind::Unauthenticated, "{spelling} {wrong:?}");
                refusals += 1;
            }
        }
    }
    assert_eq!(refusals, 11 * 2 * 2);
    // The server refused each of them.
    assert!(scene.server.info_refs() > refusals, "{} requests", scene.server.info_refs());
    for path in ["./small.git", "x/../small.git"] {
        RepositoryUrl::parse(&format!("http://127.0.0.1:{port}/{path}")).unwrap_err();
    }
}

#[test]
fn a_commit_of_another_repository_is_not_served_from_the_store() {
    let scene = Scene::new();
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    let own = Repository::new("own");
    let open = HttpServer::builder().serve(&own).start();
    own.commit("main", &Files::new().file("mine", "mine\n"));
    let mut pod = scene.pod(&scene.commit, None);
    pod.request.spec.repository = RepositoryUrl::parse(&open.url(&own)).unwrap();
    assert_eq!(scene.refused(&pod), Kind::NotFound);
}

#[test]
fn a_proof_is_valid_for_its_time_without_the_remote() {
    let mut scene = Scene::new();
    let url = scene.url();
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    let pods = [scene.pod(&scene.commit, Some("key")), scene.pod("main", Some("key"))];
    let mut stranger = scene.pod(&scene.commit, Some("other"));
    scene.server = HttpServer::builder().start();
    assert_ne!(scene.url(), url);

    let [by_commit, mut by_branch] = pods;
    assert_eq!(scene.publish(&by_commit).unwrap().outcome, Outcome::Hit);
    by_branch.request.spec.pull_policy = gitrepo_core::spec::PullPolicy::IfNotPresent;
    by_branch.request.target = scene.new_target();
    assert_eq!(scene.publish(&by_branch).unwrap().outcome, Outcome::Hit);
    stranger.request.target = scene.new_target();
    assert_eq!(scene.refused(&stranger), Kind::Unavailable);
}

#[test]
fn an_expired_proof_does_not_count() {
    let scene = Scene::proving_for(Duration::ZERO);
    let first = scene.pod("main", Some("key"));
    scene.publish(&first).unwrap();
    let asked = scene.server.info_refs();
    scene.publish(&scene.pod(&scene.commit, Some("key"))).unwrap();
    assert!(scene.server.info_refs() > asked, "the remote is asked again");

    scene.server.accept_only(&[Credential::Bearer("changed")]);
    assert_eq!(scene.refused(&scene.pod(&scene.commit, Some("key"))), Kind::Unauthenticated);
    assert_eq!(scene.publish(&first).unwrap().outcome, Outcome::AlreadyPublished, "a published volume stays");

    // With a longer `accessTtl`, the same store still refuses: the refusal removed the proof.
    let longer = node(&scene.place, Duration::from_secs(300));
    assert_eq!(
        longer.publish_as(&scene.pod(&scene.commit, Some("key")).request, &token(Some("key"))).unwrap_err().kind(),
        Kind::Unauthenticated
    );
}

#[test]
fn a_refusal_revokes_the_proof_at_once() {
    let scene = Scene::new();
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    scene.server.accept_only(&[Credential::Bearer("changed")]);
    scene.publish(&scene.pod(&scene.commit, Some("key"))).unwrap();
    assert_eq!(scene.refused(&scene.pod("refs/heads/main", Some("key"))), Kind::Unauthenticated);
    assert_eq!(scene.refused(&scene.pod(&scene.commit, Some("key"))), Kind::Unauthenticated);
}

#[test]
fn a_refusal_does_not_affect_other_credentials() {
    let scene = Scene::new();
    assert_eq!(scene.refused(&scene.pod("main", None)), Kind::Unauthenticated);
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    assert_eq!(scene.refused(&scene.pod("main", Some("wrong"))), Kind::Unauthenticated);
    let asked = scene.server.requests().len();
    scene.publish(&scene.pod(&scene.commit, Some("key"))).unwrap();
    assert_eq!(scene.server.requests().len(), asked, "the proof of the right key still holds");
}

#[test]
fn access_without_credentials_needs_a_proof_too() {
    let scene = Scene::new();
    scene.server.accept_only(&[]);
    scene.publish(&scene.pod("main", None)).unwrap();
    scene.server.accept_only(&[KEY]);
    scene.publish(&scene.pod(&scene.commit, None)).unwrap();
    assert_eq!(scene.refused(&scene.pod(&scene.commit, Some("wrong"))), Kind::Unauthenticated);
    assert_eq!(scene.refused(&scene.pod("HEAD", None)), Kind::Unauthenticated);
    assert_eq!(scene.refused(&scene.pod(&scene.commit, None)), Kind::Unauthenticated);
}

#[test]
fn every_secret_key_is_part_of_the_credential() {
    let scene = Scene::new();
    let keys = |more: &[(&str, &str)]| {
        let all = [("token", "key")].iter().chain(more);
        let secrets = all.map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned())));
        Credentials::from_secret_keys(secrets.collect()).unwrap()
    };
    let pod = |credentials| Pod { credentials, ..scene.pod(&scene.commit, None) };
    scene.publish(&scene.pod("main", Some("key"))).unwrap();
    let mut asked = scene.server.info_refs();
    scene.publish(&pod(keys(&[]))).unwrap();
    assert_eq!(scene.server.info_refs(), asked);
    for more in [("git.example.com.token", "other"), ("known_hosts", "# nobody\n")] {
        scene.publish(&pod(keys(&[more]))).unwrap();
        assert!(scene.server.info_refs() > asked, "{more:?}: another secret needs its own proof");
        asked = scene.server.info_refs();
    }
}
