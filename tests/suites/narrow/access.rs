//! Every credential proves that it may read the commit, whatever directory of it another one brought.

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::pktline;

use super::*;

const KEY: Credential = Credential::Bearer("key");
const OTHER: Credential = Credential::Bearer("other");

#[test]
fn s23_a_directory_that_another_credential_brought_is_for_those_who_may_read_the_commit() {
    let repository = monorepo(2);
    let secret = repository.commit_unrelated("refs/heads/secret", &Files::new().file("parts/0/secret", "secret\n"));
    let (hidden, key) = (secret.clone(), KEY.header());
    let scene = Scene::of(repository, |server| {
        server.accept(KEY).accept(OTHER).answer(move |request| {
            if request.says(&hidden) && request.authorization() != Some(&key) {
                let refusal = pktline::packet(format!("ERR upload-pack: not our ref {hidden}"));
                return Answer::tampered(move |_| (refusal.clone(), Ending::Complete));
            }
            Answer::Git
        })
    });
    let request = |revision: &str| at(scene.request("parts/0"), revision);
    scene.publish_request(&request(&secret), &token(Some("key")));
    // It may read another commit, so its receiver sees what is here.
    scene.publish_request(&request("main"), &token(Some("other")));
    for (credential, expected) in
        [(Some("other"), Kind::NotFound), (Some("wrong"), Kind::Unauthenticated), (None, Kind::Unauthenticated)]
    {
        for _ in 0..2 {
            let request = request(&secret);
            let error = scene.node.publish_as(&request, &token(credential)).expect_err("a secret");
            assert_eq!(error.kind(), expected, "{credential:?}: {}", chain(&error));
            assert!(!request.target.exists());
        }
    }
    // Who may read it proves that by the commit alone.
    let packs = scene.server.packs();
    let again = scene.publish_request(&request(&secret), &token(Some("key")));
    assert_eq!((again.published.outcome, scene.server.packs()), (Outcome::Hit, packs));
}

#[test]
fn s23_the_commit_comes_from_the_server_again_for_every_credential() {
    let repository = monorepo(2);
    let scene = Scene::of(repository, |server| server.accept(KEY).accept(OTHER));
    let commit = scene.repository.resolve("main");
    scene.publish_request(&at(scene.request("parts/0"), &commit), &token(Some("key")));
    let before = scene.server.requests().len();
    let other = scene.publish_request(&at(scene.request("parts/0"), &commit), &token(Some("other")));
    assert_eq!((other.published.outcome, other.packs), (Outcome::Hit, 0));
    let asked = scene.server.requests()[before..].iter().filter(|request| request.is_proof()).count();
    assert_eq!(asked, 1, "for the commit");
}
