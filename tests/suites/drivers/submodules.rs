//! `submodules: recursive` with the credentials of pods and of the node.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use serde_json::json;

use super::DISK;
use super::Scene;
use super::secrets::TOKEN;
use super::secrets::canaries;

/// A repository with one submodule at this URL.
fn superproject(url: &str, sub: &Repository) -> (Repository, String) {
    let repository = Repository::new("super");
    let submodules = [Submodule { path: "lib/sub", url, commit: &sub.resolve("main") }];
    let commit = repository.commit("main", &with_submodules(Files::new().file("main.c", "int main;\r\n"), &submodules));
    (repository, commit)
}

fn sub() -> Repository {
    let repository = Repository::new("sub");
    repository.commit("main", &Files::new().file("secret", "secret\n").symlink("link", "secret"));
    repository
}

impl<D: Driver> Scene<D> {
    fn with_submodules(&self) -> D::Volume {
        self.inline("v").read_only().with("submodules", "recursive")
    }
}

pub(super) fn a_volume_shows_its_submodules_as_git_checks_them_out<D: Driver>() {
    let sub = sub();
    let (repository, commit) = superproject("../sub.git", &sub);
    let Some(node) = D::start(DISK, &json!({})) else { return };
    let server = HttpServer::builder().serve(&repository).serve(&sub).start();
    let scene = Scene { node, server, repository, commit };
    let (pod, volume) = (Pod::new("pod"), scene.with_submodules());
    let target = scene.set_up(&pod, &volume);
    assert_eq!(contents(&target), cloned_by_git(&scene.url()));
    scene.tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

pub(super) fn s23_no_pod_gets_a_submodule_that_its_credential_could_not_fetch<D: Driver>() {
    const SOME: &str = "canary-some-7Uy3";
    let sub = sub();
    let (repository, commit) = superproject("../sub.git", &sub);
    let Some(node) = D::start(DISK, &json!({ "credentialsOverHttp": true })) else { return };
    let server = HttpServer::builder().serve(&repository).serve(&sub);
    let server = server.accept(Credential::Bearer(TOKEN)).accept(Credential::Bearer(SOME)).answer(|request| {
        match request.path.starts_with("/sub.git") && request.authorization() != Some(&format!("Bearer {TOKEN}")) {
            true => Answer::Status { status: 401, headers: Vec::new() },
            false => Answer::Git,
        }
    });
    let scene = Scene { node, server: server.start(), repository, commit };
    let (pod, volume) = (Pod::new("pod"), scene.with_submodules().with_secret(&[("token", TOKEN)]));
    scene.set_up(&pod, &volume);
    let other = scene.with_submodules().with_secret(&[("token", SOME)]);
    let refused = Pod::new("refused");
    let failed = scene.node.set_up(&refused, &other).expect_err("it may not read the submodule").to_string();
    assert!(failed.contains("lib/sub") && !failed.contains(SOME), "{failed}");
    scene.node.give_up(&refused, &other);
    scene.tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_submodule_gets_the_nodes_credential_for_its_own_repository<D: Driver>() {
    let (place, sub) = (tempfile::tempdir().unwrap(), sub());
    let other = HttpServer::builder().serve(&sub).accept(Credential::Bearer(TOKEN)).start();
    let (repository, commit) = superproject(&other.url_by("localhost", "sub.git"), &sub);
    let file = place.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let matches = format!("{}*", other.url_by("localhost", ""));
    let credential = json!({"match": matches, "secretDir": place.path(), "namespaces": ["ci"]});
    let configuration = json!({ "nodeCredentials": [credential], "credentialsOverHttp": true });
    let Some(node) = D::start(DISK, &configuration) else { return };
    let server = HttpServer::start(&repository);
    let scene = Scene { node, server, repository, commit };
    let (pod, volume) = (Pod::new("builder").in_namespace("ci"), scene.with_submodules());
    let target = scene.set_up(&pod, &volume);
    assert_eq!(fs::read(target.join("lib/sub/secret")).unwrap(), b"secret\n");
    let stranger = Pod::new("stranger");
    let failed = scene.node.set_up(&stranger, &volume).expect_err("another namespace").to_string();
    assert!(failed.contains("lib/sub") && failed.contains("localhost.token"), "{failed}");
    scene.node.give_up(&stranger, &volume);
    scene.node.assert_unseen(&canaries());
    scene.tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
