//! A volume with submodules that was published before: its record proves access to them only for the credentials that made
//! it, and only while the policy allows their repositories.

use std::sync::Arc;

use gitrepo_core::credentials::CredentialSource;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::SourceError;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::lease::Proof;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Submodules;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;
use tempfile::TempDir;

use super::access::node;

const OLD: &str = "canary-old-4Rd1";
const NEW: &str = "canary-new-8Kq2";

/// The node's credentials: a token for the submodule, and none for the superproject.
struct OfNode(&'static str);

impl CredentialSource for OfNode {
    fn credentials(&self, url: &RepositoryUrl) -> Result<Credentials, SourceError> {
        Ok(token(url.path().contains("sub").then_some(self.0)))
    }
}

/// A public repository with a submodule that two tokens may read, by another name of the same host.
struct Scene {
    place: TempDir,
    node: Node,
    server: HttpServer,
    repositories: [Repository; 2],
}

impl Scene {
    fn new() -> Self {
        let repositories = ["whole", "sub"].map(Repository::new);
        let commit = repositories[1].commit("main", &Files::new().file("secret", "secret"));
        let server = HttpServer::builder().serve(&repositories[0]).serve(&repositories[1]).answer(|request| {
            let allowed = [OLD, NEW].map(|token| format!("Bearer {token}"));
            let is_allowed = request.authorization().is_some_and(|given| allowed.iter().any(|one| one == given));
            match request.path.starts_with("/sub.git") && !is_allowed {
                true => Answer::Status { status: 401, headers: Vec::new() },
                false => Answer::Git,
            }
        });
        let server = server.start();
        let url = server.url_by("localhost", "sub.git");
        let submodules = [Submodule { path: "lib/sub", url: &url, commit: &commit }];
        repositories[0].commit("main", &with_submodules(Files::new(), &submodules));
        let place = TempDir::new().unwrap();
        let node = node(&place, |_| {});
        Self { place, node, server, repositories }
    }

    fn request(&self) -> VolumeRequest {
        with(read_only(&self.server.url(&self.repositories[0]), &self.node.target("pod")), |request| {
            request.spec.tree.submodules = Submodules::Recursive;
        })
    }

    /// Publishes the volume once more, as after a boot. Returns what proved access, and how often the remote was asked.
    fn again(&self, token: &'static str) -> (Result<Proof, (Kind, String)>, usize) {
        self.node.reboot();
        let asked = self.server.requests().len();
        let credentials = Credentials::none().with_source(Arc::new(OfNode(token)));
        let published = self.node.publish_as(&self.request(), &credentials);
        let proof = published.map(|one| one.proof).map_err(|error| (error.kind(), chain(&error)));
        (proof, self.server.requests().len() - asked)
    }
}

#[test]
fn s23_another_credential_of_the_node_for_a_submodule_proves_its_own_access() {
    let scene = Scene::new();
    assert!(scene.again(OLD).0.is_ok());
    assert_eq!(scene.again(OLD), (Ok(Proof::Record), 0));
    let (refused, asked) = scene.again("canary-wrong-1");
    let (kind, words) = refused.unwrap_err();
    assert!(kind == Kind::Unauthenticated && words.contains("lib/sub") && asked > 0, "{words}");
    let (proven, asked) = scene.again(NEW);
    assert!(proven.is_ok_and(|proof| proof != Proof::Record) && asked > 0);
    // Now it is recorded.
    assert_eq!(scene.again(NEW), (Ok(Proof::Record), 0));
}

#[test]
fn s14_a_submodule_on_a_host_that_is_denied_now_is_not_mounted_again() {
    let mut scene = Scene::new();
    assert!(scene.again(OLD).0.is_ok());
    scene.node = node(&scene.place, |config| {
        config.denied_hosts = serde_json::from_value(serde_json::json!(["localhost"])).unwrap();
    });
    let (refused, asked) = scene.again(OLD);
    let (kind, words) = refused.unwrap_err();
    assert!(kind == Kind::PermissionDenied && words.contains("lib/sub") && words.contains("localhost"), "{words}");
    assert_eq!(asked, 0);
}
