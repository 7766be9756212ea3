//! A receiver that was taken over lies to the verifier: at worst its own volume fails.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::error::chain;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lies::End;
use gitrepo_tests::lies::FORGER;
use gitrepo_tests::lies::LFS_LIES;
use gitrepo_tests::lies::LFS_PLACE_LIES;
use gitrepo_tests::lies::LIES;
use gitrepo_tests::lies::LIES_ABOVE;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use tempfile::TempDir;

use super::confined;

/// A node, and a repository that tenants share.
struct Scene {
    node: Node,
    server: HttpServer,
    repository: Repository,
    _place: TempDir,
}

impl Scene {
    fn new() -> Self {
        let repository = Repository::new("shared");
        repository.configure("uploadpack.allowFilter", "true");
        commit(&repository, "first");
        let server = HttpServer::start(&repository);
        let place = TempDir::new().unwrap();
        let mut config = volumes::config();
        config.limits.timeout = std::time::Duration::from_secs(60);
        fs::create_dir(place.path().join("locks")).unwrap();
        let worker = confined(&place.path().join("locks"));
        let node = Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()));
        Self { node, server, repository, _place: place }
    }

    /// Publishes for one of the tenants, each of whom has a token.
    fn publish(&self, tenant: &str, revision: &str) -> (PathBuf, Result<Published, PublishError>) {
        self.publish_part(tenant, revision, ".")
    }

    /// The same for a directory.
    fn publish_part(
        &self,
        tenant: &str,
        revision: &str,
        directory: &str,
    ) -> (PathBuf, Result<Published, PublishError>) {
        let target = self.node.target(&format!("{tenant}-{}", volumes::entries(&self.node.target("")).len()));
        let mut request = at(read_only(&self.server.url(&self.repository), &target), revision);
        request.spec.tree.subdirectory = RelativePath::parse(directory).unwrap();
        let published = self.node.publish_as(&request, &token(Some(tenant)));
        (target, published)
    }

    /// Fails unless an honest tenant gets exactly the remote's tree. Another one each time: the remote's last answer to a
    /// credential is taken again for a second.
    fn assert_honest_is_served(&self, content: &str) -> Published {
        let (target, published) = self.publish(&format!("honest-{content}"), "main");
        let published = published.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_shown(&self.node.shown(&target), content);
        published
    }

    fn refs(&self) -> Vec<String> {
        let repositories = volumes::entries(&self.node.store().join("repositories"));
        let refs = repositories.iter().flat_map(|repository| volumes::entries(&repository.join("refs/commits")));
        refs.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }
}

/// A commit with this content in all of its files.
fn commit(repository: &Repository, content: &str) -> String {
    let files = Files::new().file("README.md", content).file("docs/guide.md", format!("{content}, explained"));
    repository.commit("main", &files)
}

fn assert_shown(tree: &Path, content: &str) {
    let root = if tree.join("root").is_dir() { tree.join("root") } else { tree.to_owned() };
    assert_eq!(fs::read_to_string(root.join("README.md")).unwrap(), content);
    assert_eq!(fs::read_to_string(root.join("docs/guide.md")).unwrap(), format!("{content}, explained"));
}

#[test]
fn s19_a_lie_about_objects_fails_the_liars_volume_at_most() {
    if !require::root("to confine workers") {
        return;
    }
    for (lie, end) in LIES {
        let scene = Scene::new();
        let (target, published) = scene.publish("liar", &format!("refs/attempts/lies/{lie}"));
        match (end, published) {
            (End::Refused, Err(error)) => {
                assert!(!target.exists(), "{lie}");
                scene.node.assert_nothing_published();
                assert!(scene.node.snapshots().is_empty() && scene.refs().is_empty(), "{lie}: {}", chain(&error));
            }
            (End::Harmless, Ok(_)) => assert_shown(&scene.node.shown(&target), "first"),
            (_, published) => panic!("{lie}: {published:?}"),
        }
        let packs = scene.server.packs();
        let honest = scene.assert_honest_is_served("first");
        let fetched = scene.server.packs() > packs;
        assert_eq!((fetched, honest.outcome != Outcome::Hit), (*end == End::Refused, *end == End::Refused), "{lie}");
    }
}

#[test]
fn s19_a_lie_about_the_objects_of_a_directory_fails_the_liars_volume_at_most() {
    if !require::root("to confine workers") {
        return;
    }
    for (lie, end) in LIES.iter().chain(LIES_ABOVE) {
        let scene = Scene::new();
        let (target, published) = scene.publish_part("liar", &format!("refs/attempts/lies/{lie}"), "docs");
        match (end, published) {
            (End::Refused, Err(_)) => {
                assert!(!target.exists(), "{lie}");
                scene.node.assert_nothing_published();
                assert!(scene.node.snapshots().is_empty(), "{lie}");
            }
            (End::Harmless, Ok(_)) => {
                let shown = scene.node.shown(&target);
                let root = if shown.join("root").is_dir() { shown.join("root") } else { shown };
                assert_eq!(fs::read_to_string(root.join("guide.md")).unwrap(), "first, explained", "{lie}");
                assert_eq!(volumes::entries(&root).len(), 1, "{lie}");
            }
            (_, published) => panic!("{lie}: {published:?}"),
        }
        assert!(scene.refs().is_empty(), "{lie}: no commit is here whole");
        scene.assert_honest_is_served("first");
        // Everything that a later fetch builds on is right.
        commit(&scene.repository, "second");
        scene.assert_honest_is_served("second");
    }
}

#[test]
fn s19_a_lie_does_not_spoil_what_others_build_on() {
    if !require::root("to confine workers") {
        return;
    }
    for (lie, end) in LIES {
        let scene = Scene::new();
        scene.assert_honest_is_served("first");
        let second = commit(&scene.repository, "second");
        let (target, published) = scene.publish("liar", &format!("refs/attempts/lies/{lie}"));
        match end {
            End::Refused => {
                published.expect_err(lie);
                assert!(!scene.refs().contains(&second), "{lie}");
            }
            End::Harmless => assert_shown(&scene.node.shown(&target), published.map(|_| "second").expect(lie)),
        }
        scene.assert_honest_is_served("second");
        // Everything that a later fetch builds on is right.
        commit(&scene.repository, "third");
        scene.assert_honest_is_served("third");
    }
}

/// A scene whose repository has a file of Git LFS.
struct LfsScene {
    scene: Scene,
    lfs: Lfs,
    weights: Vec<u8>,
}

impl LfsScene {
    fn new() -> Self {
        let (mut scene, lfs, weights) = (Scene::new(), Lfs::new(), vec![7; 100_000]);
        scene.repository.commit("main", &lfs.file(Files::new().file(".gitattributes", ATTRIBUTES), "a.bin", &weights));
        scene.server = lfs.start(HttpServer::builder().serve(&scene.repository));
        Self { scene, lfs, weights }
    }

    fn publish(&self, tenant: &str, revision: &str) -> (PathBuf, Result<Published, PublishError>) {
        let Self { scene, .. } = self;
        let target = scene.node.target(tenant);
        let request = at(read_only(&scene.server.url(&scene.repository), &target), revision);
        let request = volumes::with(request, |request| request.spec.tree.lfs = true);
        (target, scene.node.publish_as(&request, &token(Some(tenant))))
    }

    fn assert_shown(&self, target: &Path, lie: &str) {
        let tree = self.scene.node.shown(target);
        let root = if tree.join("root").is_dir() { tree.join("root") } else { tree };
        assert!(fs::read(root.join("a.bin")).unwrap() == self.weights, "{lie}");
    }

    /// Fails unless a lie ends as it should, and an honest tenant is served then.
    fn assert_end(&self, lie: &str, end: End) {
        let (target, published) = self.publish("liar", &format!("refs/attempts/lies/{lie}"));
        match (end, published) {
            (End::Refused, Err(_)) => {
                self.scene.node.assert_nothing_published();
                assert!(!target.exists() && self.scene.node.snapshots().is_empty(), "{lie}");
            }
            (End::Harmless, Ok(_)) => self.assert_shown(&target, lie),
            (_, published) => panic!("{lie}: {published:?}"),
        }
        let (target, published) = self.publish("honest", "main");
        published.unwrap_or_else(|error| panic!("{lie}: {}", chain(&error)));
        self.assert_shown(&target, lie);
    }
}

#[test]
fn s19_a_lie_about_lfs_objects_fails_the_liars_volume_at_most() {
    if !require::root("to confine workers") {
        return;
    }
    for (lie, end) in LFS_LIES {
        LfsScene::new().assert_end(lie, *end);
    }
}

#[test]
fn s19_a_lie_about_the_places_of_lfs_objects_sends_no_other_worker_astray() {
    if !require::root("to confine workers") {
        return;
    }
    for (lie, end) in LFS_PLACE_LIES {
        let scene = LfsScene::new();
        let storage = scene.lfs.start(HttpServer::builder());
        scene.lfs.store_at(&storage, "localhost");
        scene.assert_end(lie, *end);
        // The honest tenant's, and that of a lie without effect.
        let expected = if *end == End::Harmless { 1..=2 } else { 1..=1 };
        let requests = storage.requests();
        assert!(expected.contains(&requests.len()), "{lie}: {requests:?}");
        for request in requests {
            let host = format!("localhost:{}", storage.port());
            assert_eq!((request.header("host"), request.authorization()), (Some(&*host), None), "{lie}");
        }
    }
}

#[test]
fn s23_a_receiver_cannot_claim_that_the_remote_gave_out_a_commit() {
    if !require::root("to confine workers") {
        return;
    }
    let scene = Scene::new();
    let purged = scene.repository.commit("purged", &Files::new().file("README.md", "purged"));
    scene.publish("honest", "purged").1.unwrap();
    scene.repository.delete_branch("purged");
    git::output(&mut scene.repository.git(["gc", "--quiet", "--prune=now"]));
    let packs = scene.server.packs();
    // With the second one, it is asked in a session that may fetch, and build on the store. The third time, the claim that a
    // ref stands there is on record.
    let claim = format!("refs/attempts/stands-at-commit/{purged}");
    for revision in [&purged, &claim, &claim] {
        let (target, published) = scene.publish(FORGER, revision);
        let error = published.expect_err(revision);
        assert!(chain(&error).to_string().contains("unexpected reply"), "{revision}: {}", chain(&error));
        assert!(!target.exists(), "{revision}");
    }
    assert_eq!(scene.server.packs(), packs);

    // The receiver of a credential that got another commit sees what the store has. Confinement alone protects that: this
    // shows that the claim above was a good one.
    scene.publish(FORGER, "main").1.unwrap();
    let (target, published) = scene.publish(FORGER, &claim);
    published.unwrap();
    assert_eq!(fs::read_to_string(scene.node.shown(&target).join("README.md")).unwrap(), "purged");
}

#[test]
fn s19_a_lie_about_a_branch_is_believed_for_the_liars_volume_alone() {
    if !require::root("to confine workers") {
        return;
    }
    let scene = Scene::new();
    let old = scene.repository.resolve("main");
    scene.repository.set_branch("old", &old);
    commit(&scene.repository, "second");
    let (target, published) = scene.publish("liar", "refs/attempts/stands-at/refs/heads/old");
    published.unwrap();
    assert_shown(&scene.node.shown(&target), "first");
    scene.assert_honest_is_served("second");
}
