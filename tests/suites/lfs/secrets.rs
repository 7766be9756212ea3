//! A credential and a place of an object go to no host but their own, and the policy counts for every place.

use std::collections::BTreeSet;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Fault;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lfs::batches;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::repository::Files;

use super::FLAG;
use super::Scene;

const TOKEN: &str = "canary-token-5Xw2";
const OBJECT: &str = "Bearer canary-object-8Lm4";

/// A place of objects, which wants what their server says.
fn storage(lfs: &Lfs) -> HttpServer {
    lfs.start(HttpServer::builder())
}

/// What a server was shown.
fn shown(server: &HttpServer) -> BTreeSet<String> {
    let requests = server.requests();
    requests.iter().map(|request| request.authorization().unwrap_or("nothing").to_owned()).collect()
}

#[test]
fn s13_objects_elsewhere_see_what_was_given_for_them_and_never_the_repositorys_credential() {
    let scene = Scene::with(|builder| builder.accept(Credential::Bearer(TOKEN)));
    let storage = storage(&scene.lfs);
    let configuration = scene.person.configuration(r#"{"credentialsOverHttp": true}"#);
    let secret = scene.person.secret(&[("token", TOKEN)]);
    // Another host, and another port of the repository's own.
    for host in ["localhost", "127.0.0.1"] {
        scene.lfs.store_at(&storage, host);
        scene.lfs.authorize("Authorization", OBJECT);
        let before = downloads(&storage).len();
        let cloned = scene.person.clone(&scene.url(), &[FLAG, "-vv", &configuration, &secret]).assert_success();
        scene.assert_cloned();
        scene.person.discard_tree();
        assert!(!cloned.stderr.contains("canary") && !cloned.stdout.contains("canary"), "{}", cloned.stderr);
        assert_eq!(downloads(&storage).len() - before, 2);
    }
    assert_eq!(shown(&storage), BTreeSet::from([OBJECT.to_owned()]));
    assert_eq!(shown(&scene.server), BTreeSet::from([format!("Bearer {TOKEN}")]));
    assert!(downloads(&scene.server).is_empty());
}

#[test]
fn s13_a_redirect_to_another_host_takes_nothing_along() {
    let scene = Scene::new();
    let storage = storage(&Lfs::new());
    scene.lfs.authorize("X-Object", "canary-object");
    let url = storage.url_by("localhost", "storage/elsewhere?signature=canary-signature");
    scene.lfs.spoil(&scene.a, Fault::RedirectedTo(url));
    let refused = scene.person.clone(&scene.url(), &[FLAG, "-vv"]).assert_code(66);
    assert!(refused.stderr.contains("storage/elsewhere") && !refused.stderr.contains("canary"), "{}", refused.stderr);
    let [request] = &storage.requests()[..] else { panic!("another number of requests") };
    assert_eq!((request.header("x-object"), request.query.as_str()), (None, "signature=canary-signature"));
}

#[test]
fn an_object_is_followed_through_a_redirect_to_another_host() {
    let scene = Scene::new();
    let lfs = Lfs::new();
    let storage = storage(&lfs);
    lfs.add(&scene.a);
    let url = storage.url_by("localhost", &format!("storage/{}", gitrepo_tests::lfs::oid(&scene.a)));
    scene.lfs.spoil(&scene.a, Fault::RedirectedTo(url));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    assert_eq!(downloads(&storage).len(), 1);
}

#[test]
fn s14_no_object_is_fetched_from_an_address_that_the_policy_denies() {
    let scene = Scene::new();
    let metadata = "http://169.254.169.254/latest/meta-data".to_owned();
    for fault in [Fault::At(metadata.clone()), Fault::RedirectedTo(metadata)] {
        scene.lfs.spoil(&scene.a, fault);
        let refused = scene.person.clone(&scene.url(), &[FLAG]).assert_code(77);
        assert!(refused.stderr.contains("169.254.169.254"), "{}", refused.stderr);
        scene.person.assert_nothing_left();
    }
    let storage = storage(&scene.lfs);
    scene.lfs.repair();
    scene.lfs.store_at(&storage, "localhost");
    let configuration = scene.person.configuration(r#"{"allowedHosts": ["127.0.0.1"]}"#);
    let refused = scene.person.clone(&scene.url(), &[FLAG, &configuration]).assert_code(77);
    assert!(refused.stderr.contains("localhost"), "{}", refused.stderr);
    assert!(storage.requests().is_empty());
}

#[test]
fn s13_a_place_in_plain_text_of_a_repository_over_tls_needs_the_configuration() {
    let authority = Authority::new();
    let scene = Scene::with(|builder| builder.tls(authority.issue_for_loopback()));
    let storage = storage(&scene.lfs);
    scene.lfs.store_at(&storage, "localhost");
    let secret = scene.person.secret(&[("ca.crt", &authority.ca_pem())]);
    let refused = scene.person.clone(&scene.url(), &[FLAG, &secret]).assert_code(77);
    assert!(refused.stderr.contains("plain http"), "{}", refused.stderr);
    assert!(storage.requests().is_empty());
    let configuration = scene.person.configuration(r#"{"credentialsOverHttp": true}"#);
    scene.person.clone(&scene.url(), &[FLAG, &secret, &configuration]).assert_success();
    scene.assert_cloned();
}

#[test]
fn s13_the_commits_own_configuration_names_no_other_server() {
    let scene = Scene::with(|builder| builder.accept(Credential::Bearer(TOKEN)));
    let elsewhere = storage(&scene.lfs);
    let configuration = scene.person.configuration(r#"{"credentialsOverHttp": true}"#);
    let secret = scene.person.secret(&[("token", TOKEN)]);
    let arguments = [FLAG, &*configuration, &*secret];
    let config = |url: &str| Files::new().file(".lfsconfig", format!("[lfs]\n\turl = {url}\n"));
    scene.repository.commit("main", &config(&elsewhere.url_by("localhost", "lfs")));
    let refused = scene.person.clone(&scene.url(), &arguments).assert_code(77);
    for word in [".lfsconfig", "localhost", "not at the repository's own host"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    assert!(elsewhere.requests().is_empty());
    scene.person.assert_nothing_left();
    scene.repository.commit("main", &config("https://alice:hunter2@localhost/lfs?key=hunter2"));
    let refused = scene.person.clone(&scene.url(), &arguments).assert_code(77);
    assert!(refused.stderr.contains("localhost") && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
    // Its objects would be kept for whoever may read this repository.
    let other = scene.server.url_at("other.git/info/lfs");
    scene.repository.commit("main", &config(&other));
    let refused = scene.person.clone(&scene.url(), &arguments).assert_code(77);
    for word in [&*other, "not the repository's own"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    assert!(batches(&scene.server).is_empty());
    scene.repository.commit("main", &config(&format!("{}/info/lfs/", scene.url())));
    scene.lfs.authorize("Authorization", &format!("Bearer {TOKEN}"));
    scene.person.clone(&scene.url(), &arguments).assert_success();
    assert_eq!(batches(&scene.server)[0].path, "/app.git/info/lfs/objects/batch");
    assert!(std::fs::read_to_string(scene.person.tree().join(".gitattributes")).unwrap() == ATTRIBUTES);
}

#[test]
fn a_server_that_wants_a_credential_says_so() {
    let scene = Scene::new();
    let open = HttpServer::builder().serve(&scene.repository);
    let lfs = scene.lfs.clone();
    let server = open.answer(move |request| match request.path.ends_with("/objects/batch") {
        true => gitrepo_tests::http::Answer::Status {
            status: 401,
            headers: vec![("LFS-Authenticate".to_owned(), "Basic realm=\"lfs\"".to_owned())],
        },
        false => lfs.answer_or_git(request),
    });
    let server = server.start();
    let refused = scene.person.clone(&server.url(&scene.repository), &[FLAG]).assert_code(77);
    assert!(refused.stderr.contains("wants a credential (username and password, or token)"), "{}", refused.stderr);
}
