//! Whoever gets a tree with submodules has proven access to each of them.

use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::lease::Proof;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Offline;
use gitrepo_core::remote::Git;
use gitrepo_core::spec::Submodules;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;
use tempfile::TempDir;

use super::packs_of;

pub(super) const ALL: &str = "may-read-all";
const SOME: &str = "may-read-some";

/// Two superprojects with one submodule, which only one of two tokens may read.
pub(super) struct Scene {
    pub(super) place: TempDir,
    pub(super) node: Node,
    pub(super) server: HttpServer,
    pub(super) supers: [Repository; 2],
    pub(super) sub: Repository,
}

impl Scene {
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let sub = Repository::new("sub");
        let commit = sub.commit("main", &Files::new().file("secret", "secret\n"));
        let submodules = [Submodule { path: "lib/sub", url: "../sub.git", commit: &commit }];
        let supers = ["one", "two"].map(Repository::new);
        for repository in &supers {
            repository.commit("main", &with_submodules(Files::new().file(repository.name(), "x"), &submodules));
        }
        let server = HttpServer::builder().serve(&supers[0]).serve(&supers[1]).serve(&sub);
        let server = server.accept(Credential::Bearer(ALL)).accept(Credential::Bearer(SOME)).answer(|request| {
            match request.path.starts_with("/sub.git") && request.authorization() != Some(&format!("Bearer {ALL}")) {
                true => Answer::Status { status: 401, headers: Vec::new() },
                false => Answer::Git,
            }
        });
        let place = TempDir::new().unwrap();
        let node = node(&place, change);
        Self { place, node, server: server.start(), supers, sub }
    }

    pub(super) fn request(&self, number: usize, pod: &str) -> VolumeRequest {
        let request = read_only(&self.server.url(&self.supers[number]), &self.node.target(pod));
        with(at(request, "main"), |request| request.spec.tree.submodules = Submodules::Recursive)
    }

    fn publish(&self, number: usize, pod: &str, credentials: &Credentials) -> Result<Published, PublishError> {
        self.node.publish_as(&self.request(number, pod), credentials)
    }

    /// Requests for the submodule so far.
    fn asked_for_sub(&self) -> usize {
        self.server.requests().iter().filter(|request| request.path.starts_with("/sub.git")).count()
    }
}

/// A node with this store, as after a restart of the driver.
pub(super) fn node(place: &TempDir, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = volumes::config();
    change(&mut config);
    let worker = InProcess::new(Arc::new(Git::default()));
    Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()))
}

pub(super) fn expiring(config: &mut Config) {
    config.cache.access_ttl = Duration::ZERO;
}

fn names_sub(error: &PublishError) -> bool {
    let words = chain(error);
    words.contains("\"lib/sub\"") && words.contains("/sub.git") && !words.contains(SOME) && !words.contains(ALL)
}

#[test]
fn s23_a_cached_tree_is_refused_to_a_credential_that_may_not_read_a_submodule() {
    let scene = Scene::new(|_| {});
    let published = scene.publish(0, "all", &token(Some(ALL))).unwrap();
    assert!(matches!(published.outcome, Outcome::Fetched { .. }));
    let shown = contents(&scene.node.shown(&scene.node.target("all")));
    assert_eq!(shown[std::path::Path::new("lib/sub/secret")].1, b"secret\n");
    for refused in [Some(SOME), Some("wrong"), None] {
        let error = scene.publish(0, "some", &token(refused)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated, "{refused:?}: {error}");
        assert!(refused != Some(SOME) || names_sub(&error), "{}", chain(&error));
        assert!(!scene.node.target("some").exists());
    }
    // The refusal of the submodule says nothing of the superproject.
    let plain = with(scene.request(0, "plain"), |request| request.spec.tree.submodules = Submodules::None);
    scene.node.publish_as(&plain, &token(Some(SOME))).unwrap();
    // Nor did it hurt the one who may.
    let again = scene.publish(0, "again", &token(Some(ALL))).unwrap();
    assert_eq!((again.outcome, packs_of(&scene.server, "sub")), (Outcome::Hit, 1));
}

#[test]
fn s23_a_proof_of_each_submodule_expires_and_what_was_published_keeps_its_own() {
    let scene = Scene::new(expiring);
    scene.publish(0, "first", &token(Some(ALL))).unwrap();
    let asked = scene.asked_for_sub();
    scene.publish(0, "second", &token(Some(ALL))).unwrap();
    assert!(scene.asked_for_sub() > asked, "the submodule's remote was not asked");
    assert_eq!(packs_of(&scene.server, "sub"), 1, "nothing is fetched again");
    // A volume that was published before: the record is its proof.
    scene.node.reboot();
    let asked = scene.server.requests().len();
    let again = scene.publish(0, "first", &token(Some(ALL))).unwrap();
    assert_eq!((again.proof, scene.server.requests().len()), (Proof::Record, asked));
    // Access is withdrawn.
    scene.server.accept_only(&[Credential::Bearer(SOME)]);
    let error = scene.publish(0, "third", &token(Some(ALL))).unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
}

#[test]
fn a_hit_with_fresh_proofs_asks_nobody() {
    let scene = Scene::new(|_| {});
    scene.publish(0, "first", &token(Some(ALL))).unwrap();
    let commit = scene.supers[0].resolve("main");
    let asked = scene.server.requests().len();
    for pod in ["second", "third"] {
        let hit = scene.node.publish_as(&at(scene.request(0, pod), &commit), &token(Some(ALL))).unwrap();
        assert_eq!(hit.outcome, Outcome::Hit);
    }
    assert_eq!(scene.server.requests().len(), asked);
}

#[test]
fn two_superprojects_share_the_content_of_a_submodule() {
    let scene = Scene::new(|_| {});
    scene.publish(0, "one", &token(Some(ALL))).unwrap();
    scene.publish(1, "two", &token(Some(ALL))).unwrap();
    assert_eq!(["one", "two", "sub"].map(|name| packs_of(&scene.server, name)), [1, 1, 1]);
    for pod in ["one", "two"] {
        assert!(scene.node.shown(&scene.node.target(pod)).join("lib/sub/secret").exists());
    }
    // A new commit of the submodule costs what changed.
    let commit = scene.sub.commit("main", &Files::new().file("new", "new\n"));
    let submodules = [Submodule { path: "lib/sub", url: "../sub.git", commit: &commit }];
    let newer = scene.supers[0].commit("main", &with_submodules(Files::new(), &submodules));
    scene.node.publish_as(&at(scene.request(0, "newer"), &newer), &token(Some(ALL))).unwrap();
    assert!(scene.node.shown(&scene.node.target("newer")).join("lib/sub/new").exists());
    assert!(!scene.node.shown(&scene.node.target("one")).join("lib/sub/new").exists());
}

#[test]
fn many_volumes_at_once_bring_and_compose_each_tree_once() {
    let scene = Scene::new(|_| {});
    std::thread::scope(|scope| {
        for at in 0..8 {
            let scene = &scene;
            scope.spawn(move || scene.publish(at % 2, &format!("pod-{at}"), &token(Some(ALL))).unwrap());
        }
    });
    assert_eq!(["one", "two", "sub"].map(|name| packs_of(&scene.server, name)), [1, 1, 1]);
    // Three parts, and two trees of them.
    let snapshots = std::fs::read_dir(scene.node.store().join("snapshots")).unwrap();
    assert_eq!(snapshots.count(), 5);
    for at in 0..8 {
        assert!(scene.node.shown(&scene.node.target(&format!("pod-{at}"))).join("lib/sub/secret").exists());
    }
}

#[test]
fn other_trees_of_the_same_commit_are_other_snapshots() {
    let scene = Scene::new(|_| {});
    let plain = with(scene.request(0, "plain"), |request| request.spec.tree.submodules = Submodules::None);
    scene.node.publish_as(&plain, &token(Some(SOME))).unwrap();
    scene.publish(0, "whole", &token(Some(ALL))).unwrap();
    let elsewhere = with(scene.request(0, "placed"), |request| {
        request.spec.tree.directory = gitrepo_core::spec::RelativePath::parse("a/b").unwrap();
    });
    scene.node.publish_as(&elsewhere, &token(Some(ALL))).unwrap();
    let shown = |pod: &str| scene.node.shown(&scene.node.target(pod));
    assert_eq!(shown("plain").join("lib/sub").read_dir().unwrap().count(), 0);
    assert!(shown("whole").join("lib/sub/secret").exists());
    assert!(shown("placed").join("a/b/lib/sub/secret").exists());
    assert_eq!(packs_of(&scene.server, "sub"), 1);
}

#[test]
fn while_the_remote_is_away_an_expired_proof_of_a_submodule_serves_only_with_offline_stale() {
    for (offline, is_served) in [(Offline::Refuse, false), (Offline::Stale, true)] {
        let mut scene = Scene::new(expiring);
        scene.publish(0, "first", &token(Some(ALL))).unwrap();
        let request = with(scene.request(0, "second"), |_| {});
        let stranger = scene.request(0, "stranger");
        // A new port: nobody listens on the old one.
        scene.server = HttpServer::builder().start();
        scene.node = node(&scene.place, |config| {
            expiring(config);
            config.offline = offline;
        });
        let outcome = scene.node.publish_as(&request, &token(Some(ALL)));
        match is_served {
            true => assert_eq!(outcome.unwrap().proof, Proof::Offline),
            false => assert_eq!(outcome.unwrap_err().kind(), Kind::Unavailable),
        }
        assert!(scene.node.publish_as(&stranger, &token(Some(SOME))).is_err());
    }
}

#[test]
fn a_part_that_was_damaged_is_made_again() {
    let scene = Scene::new(|_| {});
    scene.publish(0, "first", &token(Some(ALL))).unwrap();
    let snapshots = std::fs::read_dir(scene.node.store().join("snapshots")).unwrap();
    for snapshot in snapshots.map(|entry| entry.unwrap().path()) {
        let meta = std::fs::read_to_string(snapshot.join("meta.json")).unwrap();
        if meta.contains("\"part\"") && meta.contains("/sub.git") {
            std::fs::write(snapshot.join("manifest"), "time 1\0").unwrap();
        }
    }
    scene.publish(1, "second", &token(Some(ALL))).unwrap();
    assert!(scene.node.shown(&scene.node.target("second")).join("lib/sub/secret").exists());
    assert_eq!(packs_of(&scene.server, "sub"), 1, "its content was in the store");
}
