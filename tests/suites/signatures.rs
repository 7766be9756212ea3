//! `signatures`: no way leads to a commit that lacks the signature that the admin requires.

use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::lease::Proof;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Offline;
use gitrepo_core::remote::ConnectRequest;
use gitrepo_core::remote::Connection;
use gitrepo_core::remote::FetchReport;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::Remote;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::PullPolicy;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Revision;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::signing;
use gitrepo_tests::signing::SigningKey;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use serde_json::json;
use tempfile::TempDir;

mod openpgp;

/// A repository, and a store whose programs come and go.
struct Scene {
    repository: Repository,
    server: Option<HttpServer>,
    url: String,
    commit: String,
    key: SigningKey,
    place: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (repository, commit) = fixtures::small();
        let server = HttpServer::builder().serve(&repository).start();
        let (url, key, place) = (server.url(&repository), SigningKey::new(), TempDir::new().unwrap());
        let scene = Self { repository, server: Some(server), url, commit, key, place };
        scene.allow(&[scene.key.allowed("alice@example.com", "")]);
        scene
    }

    fn file(&self) -> PathBuf {
        self.place.path().join("allowed_signers")
    }

    fn allow(&self, lines: &[String]) {
        signing::write_allowed(&self.file(), lines);
    }

    /// A program that uses the store, with this configuration.
    fn program(&self, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = volumes::config();
        change(&mut config);
        let worker = InProcess::new(Arc::new(Git::default()));
        Node::new(self.place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()))
    }

    /// The same with a rule for these repositories.
    fn ruled(&self, matches: &str, on: &str) -> Node {
        self.program(|config| self.rule(config, matches, on))
    }

    fn rule(&self, config: &mut Config, matches: &str, on: &str) {
        let rule = json!({"match": matches, "on": on, "allowedSigners": self.file()});
        config.signatures = vec![serde_json::from_value(rule).unwrap()];
    }

    fn request(&self, node: &Node, pod: &str, revision: &str) -> VolumeRequest {
        at(read_only(&self.url, &node.target(pod)), revision)
    }

    fn publish(&self, node: &Node, pod: &str, revision: &str) -> Outcome {
        node.publish(&self.request(node, pod, revision)).unwrap().outcome
    }

    fn assert_refused(&self, node: &Node, revision: &str, words: &str) {
        let request = self.request(node, "refused", revision);
        assert_refused(node, &request, words);
        let error = node.volumes.prefetch(&request, &Credentials::none(), &Watch::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    }
}

fn assert_refused(node: &Node, request: &VolumeRequest, words: &str) {
    let error = node.publish(request).unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(!request.target.exists(), "{error}");
}

#[test]
fn s20_a_tree_from_before_the_rule_needs_the_signature_too() {
    let mut scene = Scene::new();
    let before = scene.program(|_| {});
    assert!(matches!(scene.publish(&before, "before", "main"), Outcome::Fetched { .. }));
    assert_eq!(scene.publish(&before, "commit", &scene.commit), Outcome::Hit);
    let shown = scene.request(&before, "before", "main");
    drop(before);

    let node = scene.ruled("*", "either");
    // What is mounted stays.
    for revision in ["main", "HEAD", &scene.commit] {
        scene.assert_refused(&node, revision, "is not signed");
    }
    let mut kept = at(read_only(&scene.url, &node.target("kept")), "main");
    kept.spec.pull_policy = PullPolicy::IfNotPresent;
    assert_refused(&node, &kept, "is not signed");
    // A new mount of a volume that was published before, as after a reboot.
    let error = node.publish(&shown).unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    // The remote is not needed for that.
    scene.server = None;
    let error = node.publish(&shown).unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
}

#[test]
fn s20_a_signed_tree_from_before_the_rule_is_checked_without_a_fetch_and_once() {
    let mut scene = Scene::new();
    let commit = scene.key.sign_branch(&scene.repository, "main");
    let before = scene.program(|_| {});
    scene.publish(&before, "before", "main");
    drop(before);
    let asked = scene.server.as_ref().unwrap().requests().len();
    scene.server = None;
    let node = scene.ruled("*", "commit");
    let request = scene.request(&node, "after", &commit);
    let published = node.publish(&request).unwrap();
    assert_eq!(published.signer.as_ref().map(|signer| signer.key.clone()), Some(scene.key.fingerprint()));
    assert!(asked > 0 && published.outcome == Outcome::Hit);
    // The verdict is about this key. Another file of keys needs another one.
    scene.allow(&[SigningKey::new().allowed("bob@example.com", "")]);
    scene.assert_refused(&node, &commit, &scene.key.fingerprint());
}

#[test]
fn s20_another_spelling_of_the_url_needs_the_signature_too() {
    let scene = Scene::new();
    let port = scene.server.as_ref().unwrap().port();
    let node = scene.ruled("ssh://git@127.0.0.1/small", "either");
    let mut refused = 0;
    for spelling in [
        scene.url.clone(),
        format!("http://127.0.0.1:{port}//small.git"),
        format!("http://127.0.0.1:{port}/sm%61ll.git"),
        format!("http://somebody@127.0.0.1:{port}/small.git/"),
    ] {
        let request = with(read_only(&spelling, &node.target("pod")), |request| {
            request.spec.repository = RepositoryUrl::parse(&spelling).unwrap();
        });
        let error = node.publish(&request).unwrap_err();
        // Not every spelling is one for this server.
        let kinds = [Kind::PermissionDenied, Kind::NotFound];
        assert!(kinds.contains(&error.kind()) && !request.target.exists(), "{spelling}: {error}");
        refused += usize::from(error.kind() == Kind::PermissionDenied);
    }
    assert!(refused >= 2, "{refused} spellings are those of the server");
    let other = scene.ruled("http://127.0.0.1/other/*", "either");
    assert!(matches!(scene.publish(&other, "other", "main"), Outcome::Fetched { .. } | Outcome::Hit));
}

#[test]
fn s20_offline_an_unsigned_tree_is_not_served_and_a_signed_one_is() {
    let mut scene = Scene::new();
    scene.repository.set_branch("signed", "main");
    let signed = scene.key.sign_branch(&scene.repository, "signed");
    let stale = |config: &mut Config| {
        config.offline = Offline::Stale;
        config.cache.access_ttl = std::time::Duration::ZERO;
    };
    let before = scene.program(stale);
    scene.publish(&before, "one", "main");
    scene.publish(&before, "two", "signed");
    scene.server = None;
    let node = scene.program(|config| {
        stale(config);
        scene.rule(config, "*", "commit");
    });
    scene.assert_refused(&node, "main", "is not signed");
    let published = node.publish(&scene.request(&node, "three", "signed")).unwrap();
    assert_eq!((published.proof, published.commit.to_string()), (Proof::Offline, signed));
}

#[test]
fn s20_a_volume_of_a_signed_tag_is_published_again_by_the_tag_that_it_was_made_with() {
    let mut scene = Scene::new();
    let node = scene.ruled("*", "tag");
    scene.key.sign_tag(&scene.repository, "v1.0", "main");
    let request = scene.request(&node, "pod", "v1.0");
    let published = node.publish(&request).unwrap();
    assert!(published.signer.as_ref().is_some_and(|signer| signer.tag), "{published:?}");
    // Another program with no mount of it, as after a reboot, while the remote is away.
    scene.server = None;
    let again = scene.ruled("*", "tag");
    let published = again.publish(&request).unwrap();
    assert!(published.signer.is_some_and(|signer| signer.tag));
}

#[test]
fn s20_a_server_that_gives_out_no_commits_by_their_ids_serves_signed_ones() {
    let scene = Scene::new();
    scene.repository.refuse_commits_by_id();
    let node = scene.ruled("*", "either");
    scene.key.sign_tag(&scene.repository, "v1.0", "main");
    assert!(matches!(scene.publish(&node, "pod", "v1.0"), Outcome::Fetched { .. }));
    scene.assert_refused(&node, "main", "no annotated tag led to it");
    let signed = scene.key.sign_branch(&scene.repository, "main");
    assert!(matches!(scene.publish(&node, "branch", "refs/heads/main"), Outcome::Fetched { .. }));
    assert_eq!(scene.publish(&node, "commit", &signed), Outcome::Hit);
}

#[test]
fn s20_the_default_branch_is_no_tag_whatever_the_server_says() {
    let scene = Scene::new();
    scene.key.sign_tag(&scene.repository, "v1.0", "main");
    git::output(&mut scene.repository.git(["symbolic-ref", "HEAD", "refs/tags/v1.0"]));
    let node = scene.ruled("*", "tag");
    let request = with(scene.request(&node, "pod", "main"), |request| request.spec.revision = Revision::Head);
    assert_refused(&node, &request, "no annotated tag led to it");
    // The tag itself counts where it is asked for, and not for the next volume that does not ask for it.
    assert!(matches!(scene.publish(&node, "tag", "v1.0"), Outcome::Fetched { .. }));
    assert_refused(&node, &request, "no annotated tag led to it");
}

#[test]
fn s20_a_receiver_that_answers_with_an_old_tag_gets_nothing_shown() {
    let scene = Scene::new();
    scene.key.sign_tag(&scene.repository, "v1", "main");
    let newer = scene.repository.commit("main", &Files::new().file("a", "newer"));
    scene.key.sign_tag(&scene.repository, "v2", &newer);
    for revision in ["v2", "refs/tags/v2"] {
        let mut config = volumes::config();
        scene.rule(&mut config, "*", "tag");
        let worker = InProcess::new(Arc::new(AnswersWithV1(Git::default())));
        let place = TempDir::new().unwrap();
        let node = Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()));
        // The lie is about this revision. Where the old version is asked for, it is no lie.
        assert_refused(&node, &scene.request(&node, "pod", revision), "no annotated tag led to it");
        assert!(matches!(scene.publish(&node, "old", "v1"), Outcome::Fetched { .. }));
        assert_refused(&node, &scene.request(&node, "pod", revision), "no annotated tag led to it");
    }
}

/// A receiver that was taken over: whatever revision it is asked about, it answers with the tag `v1`.
struct AnswersWithV1(Git);

impl Remote for AnswersWithV1 {
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection)) {
        self.0.converse(request, &mut |connection| conversation(&mut Lying(connection)));
    }
}

struct Lying<'a>(&'a mut dyn Connection);

impl Connection for Lying<'_> {
    fn resolve(&mut self, _: &Revision) -> Result<Resolved, RemoteError> {
        self.0.resolve(&Revision::Ref("refs/tags/v1".to_owned()))
    }

    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.0.prove(commit)
    }

    fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.0.tag(tag)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        self.0.fetch(request)
    }

    fn accepted_host_key(&self) -> Option<String> {
        self.0.accepted_host_key()
    }
}
