//! A submodule needs the signature that the rule for its own repository requires.

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::lease::Proof;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Offline;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::openpgp;
use gitrepo_tests::openpgp::OpenPgpKey;
use gitrepo_tests::repository::Files;
use gitrepo_tests::require;
use gitrepo_tests::signing;
use gitrepo_tests::signing::SigningKey;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::token;
use serde_json::json;

use super::access::ALL;
use super::access::Scene;
use super::access::expiring;
use super::access::node;

#[test]
fn s20_no_way_leads_to_a_submodule_without_its_signature() {
    let mut scene = Scene::new(|_| {});
    // By its id: what a branch is said to be counts for a second.
    let commit = scene.supers[0].resolve("main");
    let published = at(scene.request(0, "before"), &commit);
    scene.node.publish_as(&published, &token(Some(ALL))).unwrap();
    let allowed = scene.place.path().join("allowed_signers");
    signing::write_allowed(&allowed, &[SigningKey::new().allowed("alice@example.com", "")]);
    let rule = json!({"match": scene.server.url(&scene.sub), "allowedSigners": allowed});
    scene.node = node(&scene.place, |config| config.signatures = vec![serde_json::from_value(rule).unwrap()]);
    // A tree that was composed before, one that is not yet composed, and a volume that is mounted again.
    let requests = [at(scene.request(0, "hit"), &commit), scene.request(1, "new"), published];
    for request in &requests {
        let error = scene.node.publish_as(request, &token(Some(ALL))).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.kind(), Kind::PermissionDenied, "{text}");
        assert!(text.contains("lib/sub") && text.contains("is not signed"), "{text}");
    }
    // Nobody has lost a proof by that.
    scene.node = node(&scene.place, |_| {});
    let asked = scene.server.requests().len();
    assert_eq!(scene.node.publish_as(&requests[0], &token(Some(ALL))).unwrap().outcome, Outcome::Hit);
    assert_eq!(scene.server.requests().len(), asked, "the remote was asked again");
}

#[test]
fn s20_a_signed_submodule_is_served_first_again_from_its_record_and_offline() {
    let mut scene = Scene::new(|_| {});
    let key = SigningKey::new();
    let signed = key.sign_branch(&scene.sub, "main");
    let submodules = [Submodule { path: "lib/sub", url: "../sub.git", commit: &signed }];
    scene.supers[0].commit("main", &with_submodules(Files::new(), &submodules));
    let allowed = scene.place.path().join("allowed_signers");
    signing::write_allowed(&allowed, &[key.allowed("alice@example.com", "")]);
    let rule = json!({"match": scene.server.url(&scene.sub), "on": "commit", "allowedSigners": allowed});
    let ruled = |config: &mut Config| {
        expiring(config);
        config.offline = Offline::Stale;
        config.signatures = vec![serde_json::from_value(rule.clone()).unwrap()];
    };
    scene.node = node(&scene.place, ruled);
    let [first, hit, offline] = ["first", "hit", "offline"].map(|pod| scene.request(0, pod));
    let published = scene.node.publish_as(&first, &token(Some(ALL))).unwrap();
    assert!(matches!(published.outcome, Outcome::Fetched { .. }));
    assert_eq!(scene.node.publish_as(&hit, &token(Some(ALL))).unwrap().outcome, Outcome::Hit);
    // Other keys: the verdict is no longer known.
    signing::write_allowed(&allowed, &[key.allowed("alice@example.org", "")]);
    scene.server = HttpServer::builder().start();
    assert_eq!(scene.node.publish_as(&offline, &token(Some(ALL))).unwrap().proof, Proof::Offline);
    scene.node.reboot();
    assert_eq!(scene.node.publish_as(&first, &token(Some(ALL))).unwrap().proof, Proof::Record);
    signing::write_allowed(&allowed, &[]);
    scene.node.reboot();
    let refused = scene.node.publish_as(&first, &token(Some(ALL))).unwrap_err();
    assert!(chain(&refused).contains("lib/sub"), "{}", chain(&refused));
}

#[test]
fn s20_a_submodule_that_gpg_signed_is_served_while_its_key_is_in_the_file() {
    if !require::tool("gpg") {
        return;
    }
    let mut scene = Scene::new(|_| {});
    let key = OpenPgpKey::new("ed25519", "Alice <alice@example.com>");
    let signed = key.sign_branch(&scene.sub, "main");
    let submodules = [Submodule { path: "lib/sub", url: "../sub.git", commit: &signed }];
    scene.supers[0].commit("main", &with_submodules(Files::new(), &submodules));
    let keys = scene.place.path().join("keys.asc");
    openpgp::write_keys(&keys, &[&key]);
    let rule = json!({"match": scene.server.url(&scene.sub), "on": "commit", "openpgpKeys": keys});
    scene.node = node(&scene.place, |config| config.signatures = vec![serde_json::from_value(rule).unwrap()]);
    let [first, again] = ["first", "again"].map(|pod| scene.request(0, pod));
    assert!(scene.node.publish_as(&first, &token(Some(ALL))).is_ok());
    openpgp::write_keys(&keys, &[&OpenPgpKey::new("ed25519", "Bob")]);
    let refused = scene.node.publish_as(&again, &token(Some(ALL))).unwrap_err();
    let words = chain(&refused);
    assert_eq!(refused.kind(), Kind::PermissionDenied, "{words}");
    assert!(words.contains("lib/sub") && words.contains(key.fingerprint()), "{words}");
}

#[test]
fn s20_no_tag_counts_for_a_submodule_and_the_refusal_says_so() {
    let mut scene = Scene::new(|_| {});
    let key = SigningKey::new();
    key.sign_tag(&scene.sub, "v1.0", "main");
    let allowed = scene.place.path().join("allowed_signers");
    signing::write_allowed(&allowed, &[key.allowed("alice@example.com", "")]);
    let rule = json!({"match": scene.server.url(&scene.sub), "on": "tag", "allowedSigners": allowed});
    scene.node = node(&scene.place, |config| config.signatures = vec![serde_json::from_value(rule).unwrap()]);
    let error = scene.node.publish_as(&scene.request(0, "pod"), &token(Some(ALL))).unwrap_err();
    let words = chain(&error);
    assert_eq!(error.kind(), Kind::PermissionDenied, "{words}");
    assert!(words.contains("lib/sub") && words.contains("no tag counts") && words.contains("`on: tag`"), "{words}");
}
