//! `nodeCredentials`: keys on the node, for pods of some namespaces that bring none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use serde_json::json;

use super::DISK;
use super::Scene;
use super::secrets::TOKEN;
use super::secrets::canaries;

/// A node with a token in `directory` for pods of the namespace `ci`, and a server that wants it.
fn scene<D: Driver>(directory: &Path) -> Option<Scene<D>> {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).accept(Credential::Bearer(TOKEN)).start();
    write(directory, TOKEN, 0o400);
    let matches = format!("{}/*", server.url_at("").trim_end_matches('/'));
    let credential = json!({"match": matches, "secretDir": directory, "namespaces": ["ci"]});
    let node = D::start(DISK, &json!({ "nodeCredentials": [credential] }))?;
    Some(Scene { node, server, repository, commit })
}

fn write(directory: &Path, token: &str, mode: u32) {
    let file = directory.join("token");
    drop(fs::remove_file(&file));
    fs::write(&file, token).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

pub(super) fn a_key_of_the_node_serves_pods_of_its_namespaces_and_nobody_else<D: Driver>() {
    let place = tempfile::tempdir().unwrap();
    let Some(scene) = scene::<D>(place.path()) else { return };
    let volume = scene.inline("v").read_only();
    let pod = Pod::new("builder").in_namespace("ci");
    let target = scene.set_up(&pod, &volume);
    scene.assert_shown_on(&target);

    // The tree is in the store, and the namespace is not listed.
    let other = Pod::new("other");
    let failed = scene.node.set_up(&other, &volume).expect_err("another namespace").to_string();
    assert!(failed.contains("wants a credential"), "{failed}");
    scene.node.give_up(&other, &volume);
    // What a pod's author writes changes nothing.
    let forged = volume.clone().with_secret(&[("token", "forged")]);
    let failed = scene.node.set_up(&other, &forged).expect_err("another credential").to_string();
    assert!(failed.contains("credential"), "{failed}");
    scene.node.give_up(&other, &forged);
    // A pod's own keys are used alone.
    let own = Pod::new("own").in_namespace("ci");
    scene.node.set_up(&own, &forged).expect_err("the pod's own wrong token");
    scene.node.give_up(&own, &forged);

    scene.node.assert_unseen(&canaries());
    scene.tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_new_key_of_the_node_is_used_without_a_restart<D: Driver>() {
    const NEW: &str = "canary-token-3NewQ";
    let place = tempfile::tempdir().unwrap();
    let Some(scene) = scene::<D>(place.path()) else { return };
    let volume = scene.inline("v").read_only();
    let start = |name: &str| {
        let pod = Pod::new(name).in_namespace("ci");
        let target = scene.set_up(&pod, &volume);
        (pod, target)
    };
    let (first, target) = start("first");
    scene.server.accept_only(&[Credential::Bearer(NEW)]);
    write(place.path(), NEW, 0o400);
    let (second, _) = start("second");
    scene.assert_shown_on(&target);
    for pod in [&first, &second] {
        scene.tear_down(pod, &volume);
    }

    // Readable by everybody: an administrator's mistake, which must not go unnoticed.
    write(place.path(), NEW, 0o444);
    let third = Pod::new("third").in_namespace("ci");
    let failed = scene.node.set_up(&third, &volume).expect_err("the key is readable by everybody").to_string();
    assert!(failed.contains("others may read it") && !failed.contains(NEW), "{failed}");
    scene.node.give_up(&third, &volume);
    scene.node.assert_unseen(&canaries());
    scene.node.assert_nothing_set_up();
}

/// As deploy keys are: one for each repository of a host. A pod's secret has one for each host.
pub(super) fn two_repositories_of_one_host_have_a_key_each<D: Driver>() {
    const OTHER: &str = "canary-other-9Pq5";
    let places = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (repository, commit) = fixtures::small();
    let other = Repository::new("other");
    let of_other = other.commit("main", &Files::new().file("x", "x"));
    let keys = [("/small.git", TOKEN), ("/other.git", OTHER)];
    let server = keys.iter().fold(HttpServer::builder(), |server, (_, token)| server.accept(Credential::Bearer(token)));
    let server = server.serve(&repository).serve(&other).answer(move |request| {
        let is_its = |(path, token): &(&str, &str)| {
            request.path.starts_with(path) && request.authorization() == Some(&format!("Bearer {token}"))
        };
        match keys.iter().any(is_its) {
            true => Answer::Git,
            false => Answer::Status { status: 403, headers: Vec::new() },
        }
    });
    let server = server.start();
    let urls = [&repository, &other].map(|repository| server.url(repository));
    let credentials: Vec<_> = (0..2)
        .map(|at| {
            write(places[at].path(), keys[at].1, 0o400);
            json!({"match": urls[at], "secretDir": places[at].path(), "namespaces": ["ci"]})
        })
        .collect();
    let Some(node) = D::start(DISK, &json!({ "nodeCredentials": credentials, "credentialsOverHttp": true })) else {
        return;
    };
    let pod = Pod::new("builder").in_namespace("ci");
    for (url, (repository, commit)) in urls.iter().zip([(&repository, &commit), (&other, &of_other)]) {
        let volume = D::inline("v", &[("repository", url), ("directory", ".")]).read_only();
        node.set_up(&pod, &volume).unwrap();
        assert_same_tree(repository, commit, ".", &node.target(&pod, &volume));
        node.tear_down(&pod, &volume);
    }
    node.assert_unseen(&canaries());
    node.assert_nothing_set_up();
}
