//! `pullPolicy: IfNotPresent` takes the remote's last answer to the same credential, and to no other.

use gitrepo_core::lease::Proof;
use gitrepo_core::spec::PullPolicy;

use super::*;

impl Scene {
    /// Publishes a new volume of the branch `main`, or of what it was.
    fn publish_if_not_present(&self, key: Option<&str>) -> Result<Published, PublishError> {
        let mut pod = self.pod("main", key);
        pod.request.spec.pull_policy = PullPolicy::IfNotPresent;
        self.publish(&pod)
    }

    fn commit_if_not_present(&self, key: &str) -> String {
        self.publish_if_not_present(Some(key)).unwrap().commit.to_string()
    }
}

#[test]
fn if_not_present_uses_the_last_answer_to_this_credential_alone() {
    let scene = Scene::serving(|server, _| server.accept(OTHER), |_| {});
    let old = scene.commit.clone();
    assert_eq!(scene.commit_if_not_present("key"), old, "the first time, the remote is asked");
    let new = scene.repository.commit("main", &Files::new().file("new", "new\n"));
    let asked = scene.server.requests().len();
    assert_eq!(scene.commit_if_not_present("key"), old);
    assert_eq!(scene.server.requests().len(), asked);
    assert_eq!(scene.commit_if_not_present("other"), new, "it was told nothing before");
    assert_eq!(scene.commit_if_not_present("key"), old, "what another credential was told does not count");
    assert_eq!(scene.publish_if_not_present(None).unwrap_err().kind(), Kind::Unauthenticated);
    assert_eq!(scene.publish_if_not_present(Some("wrong")).unwrap_err().kind(), Kind::Unauthenticated);

    // `Always` asks, after a second in which calls share an answer. Its answer is the last one from then on.
    while scene.publish_new("main", Some("key")).unwrap().commit.to_string() != new {}
    assert_eq!(scene.commit_if_not_present("key"), new);
}

#[test]
fn if_not_present_saves_no_proof_of_access() {
    let mut scene = Scene::proving_for(Duration::ZERO);
    let old = scene.commit.clone();
    assert_eq!(scene.commit_if_not_present("key"), old);
    let new = scene.repository.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
    let proofs = scene.server.proofs();
    let again = scene.publish_if_not_present(Some("key")).unwrap();
    assert_eq!((again.commit.to_string(), again.proof), (old.clone(), Proof::Commit), "the server still gives it out");
    assert_eq!(scene.server.proofs(), proofs + 1);

    // After a restart, too. Once the server has it no longer, the revision is resolved anew.
    scene.restart(Duration::ZERO);
    assert_eq!(scene.commit_if_not_present("key"), old);
    gitrepo_tests::git::output(&mut scene.repository.git(["gc", "--quiet", "--prune=now"]));
    assert_eq!(scene.commit_if_not_present("key"), new);
    scene.server.accept_only(&[Credential::Bearer("changed")]);
    assert_eq!(scene.publish_if_not_present(Some("key")).unwrap_err().kind(), Kind::Unauthenticated);
}
