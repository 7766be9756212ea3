//! Access is proven for the commit: a credential that may read one commit of a repository gets no other one from the store.

use std::sync::atomic::AtomicBool;

use gitrepo_core::lease::Proof;
use gitrepo_tests::git;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::Request;
use gitrepo_tests::pktline;

use super::*;

const FRESH: Duration = Duration::from_secs(300);

/// Whoever asks: with the good key, with another one that the server accepts, with a wrong one, and without any.
const EVERYBODY: [Option<&str>; 4] = [Some("key"), Some("other"), Some("wrong"), None];

impl Scene {
    /// Asserts that nobody of these gets the commit by its id, by the server's word, although it is in the store.
    fn assert_refused(&self, commit: &str, credentials: &[Option<&str>]) {
        for credential in credentials {
            let expected = match credential {
                Some("key" | "other") => Kind::NotFound,
                _ => Kind::Unauthenticated,
            };
            assert_eq!(self.refused(&self.pod(commit, *credential)), expected, "{credential:?}");
        }
        let is_of = |snapshot: &PathBuf| std::fs::read_to_string(snapshot.join("meta.json")).unwrap().contains(commit);
        assert!(self.node.snapshots().iter().any(is_of), "{commit} is in the store");
    }

    /// Publishes a new volume, for which nothing is asked of the server.
    fn publish_unasked(&self, revision: &str, key: &str) -> Published {
        let before = self.server.requests().len();
        let published = self.publish_new(revision, Some(key)).unwrap();
        assert_eq!(self.server.requests().len(), before, "a fresh proof is enough");
        published
    }

    /// Replaces the branch `main`, and deletes what it was.
    fn purge(&self) -> String {
        let new = self.repository.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
        git::output(&mut self.repository.git(["gc", "--quiet", "--prune=now"]));
        let gone = self.repository.git(["cat-file", "-e", &self.commit]).output().unwrap();
        assert!(!gone.status.success(), "the server still has the commit");
        new
    }
}

/// A server that gives this commit to nobody but the key, as a forge with access per branch would.
fn keeps_to_the_key(server: HttpServerBuilder, commit: &str) -> HttpServerBuilder {
    let (commit, key) = (commit.to_owned(), KEY.header());
    server.accept(OTHER).answer(move |request| {
        if request.is_proof() && request.says(&commit) && request.authorization() != Some(&key) {
            let refusal = pktline::packet(format!("ERR upload-pack: not our ref {commit}"));
            return Answer::tampered(move |_| (refusal.clone(), Ending::Complete));
        }
        Answer::Git
    })
}

#[test]
fn s23_a_cached_commit_is_proven_by_a_small_answer_and_fetched_by_nobody() {
    for filters in [true, false] {
        let scene = Scene::serving(|server, _| server.accept(OTHER), |_| {});
        scene.repository.configure("uploadpack.allowFilter", &filters.to_string());
        let files = Files::new().file("noise", fixtures::noise(7, 4 << 20));
        let commit = scene.repository.commit_unrelated("refs/heads/large", &files);
        let first = scene.publish_new("large", Some("key")).unwrap();
        assert_eq!((first.proof, first.commit.to_string()), (Proof::Ref, commit.clone()));
        assert_eq!(scene.publish_unasked(&commit, "key").proof, Proof::Ref);

        let packs = scene.server.packs();
        let hit = scene.publish_new(&commit, Some("other")).unwrap();
        assert_eq!((hit.outcome, hit.proof), (Outcome::Hit, Proof::Commit));
        assert_eq!((scene.server.packs() - packs, scene.server.proofs()), (0, 1));
        scene.server.settle();
        let requests = scene.server.requests();
        let proof = requests.iter().find(|request| request.is_proof()).unwrap();
        assert!(!proof.says("have ") && proof.says("deepen 1"), "nothing of ours is on offer");
        let sent = proof.sent();
        assert!(!filters || (1..1024).contains(&sent), "{sent} bytes");
        assert_eq!(scene.publish_unasked(&commit, "other").proof, Proof::Commit);
        // The connection is good for more, or made anew.
        let main = scene.publish_new(&scene.commit, Some("other")).unwrap();
        assert!(matches!(main.outcome, Outcome::Fetched { .. }));
    }
}

#[test]
fn s23_a_commit_of_a_hidden_branch_is_refused() {
    let mut scene = Scene::serving(|server, _| server.accept(OTHER).protocol(0), |_| {});
    let hidden = scene.repository.commit_unrelated("refs/heads/hidden", &Files::new().file("secret", "secret\n"));
    scene.publish_new("hidden", Some("key")).unwrap();
    scene.publish_new("main", Some("other")).unwrap();
    scene.repository.configure("uploadpack.hideRefs", "refs/heads/hidden");
    scene.repository.refuse_commits_by_id();
    scene.assert_refused(&hidden, &EVERYBODY[1..]);
    assert_eq!(scene.refused(&scene.pod("hidden", Some("other"))), Kind::NotFound);
    assert_eq!(scene.publish_unasked(&hidden, "key").outcome, Outcome::Hit, "told {FRESH:?} ago at most");

    scene.restart(Duration::ZERO);
    scene.assert_refused(&hidden, &EVERYBODY);
    scene.restart(FRESH);
    scene.assert_refused(&hidden, &EVERYBODY);
    // A refusal of one commit says nothing about another.
    scene.publish_unasked(&scene.commit, "other");
}

#[test]
fn s23_a_purged_commit_is_refused() {
    let mut scene = Scene::serving(|server, _| server.accept(OTHER), |_| {});
    let old = scene.commit.clone();
    scene.publish_new("main", Some("key")).unwrap();
    let new = scene.purge();
    // The store offers the old commit now, and the server does not know it.
    assert!(matches!(scene.publish_new("main", Some("other")).unwrap().outcome, Outcome::Fetched { .. }));
    scene.assert_refused(&old, &EVERYBODY[1..]);
    scene.publish_unasked(&new, "other");
    assert_eq!(scene.publish_unasked(&old, "key").outcome, Outcome::Hit, "told {FRESH:?} ago at most");

    scene.restart(Duration::ZERO);
    scene.assert_refused(&old, &EVERYBODY);
    scene.restart(FRESH);
    scene.assert_refused(&old, &EVERYBODY);
    scene.publish_unasked(&new, "other");
}

#[test]
fn s23_a_commit_of_a_urls_former_owner_is_refused() {
    let mut scene = Scene::new();
    let old = scene.commit.clone();
    scene.publish_new("main", Some("key")).unwrap();
    let successor = Repository::new("small");
    let new = successor.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
    scene.server.add(&successor);
    scene.server.accept_only(&[]);
    scene.restart(Duration::ZERO);
    for credential in EVERYBODY {
        assert_eq!(scene.refused(&scene.pod(&old, credential)), Kind::NotFound, "{credential:?}");
    }
    assert_eq!(scene.publish_new("main", None).unwrap().commit.to_string(), new);
    assert_eq!(scene.refused(&scene.pod(&old, None)), Kind::NotFound);
}

#[test]
fn s23_an_empty_pack_proves_nothing() {
    let empties = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&empties);
    let scene = Scene::serving(
        |server, _| {
            server.accept(OTHER).answer(move |request| {
                let has_pack = request.is_proof() || request.is_upload_pack();
                if !(has_pack && switch.load(Ordering::Relaxed)) {
                    return Answer::Git;
                }
                let header = b"PACK\0\0\0\x02\0\0\0\0";
                let pack = [header.as_slice(), &openssl::sha::sha1(header)].concat();
                let answer = [pktline::packet("packfile\n"), pktline::band(1, &pack), pktline::FLUSH.to_vec()].concat();
                Answer::tampered(move |_| (answer.clone(), Ending::Complete))
            })
        },
        |_| {},
    );
    // The history of one commit is in the store, but not the snapshots of those before.
    let last = scene.repository.commit("main", &Files::new().file("new", "new\n"));
    let mut whole = scene.pod("main", Some("key"));
    whole.request.spec.depth = 0;
    scene.publish(&whole).unwrap();
    empties.store(true, Ordering::Relaxed);
    scene.assert_refused(&last, &[Some("other")]);
    assert_eq!(scene.refused(&scene.pod(&scene.commit, Some("other"))), Kind::NotFound);
    empties.store(false, Ordering::Relaxed);
    assert_eq!(scene.publish_new(&last, Some("other")).unwrap().outcome, Outcome::Hit);
    let proofs = scene.server.proofs();
    scene.publish_new(&scene.commit, Some("key")).unwrap();
    assert_eq!(scene.server.proofs(), proofs + 1, "what is here is not sent again, so it is asked for alone");
    assert_eq!(scene.publish_new(&scene.commit, Some("other")).unwrap().outcome, Outcome::Hit);
}

#[test]
fn s23_who_joins_a_fetch_in_flight_needs_a_proof_of_its_own() {
    let scene = Scene::serving(keeps_to_the_key, |_| {});
    let gate = scene.server.hold(Request::is_upload_pack);
    let first = scene.pod("main", Some("key"));
    let (second, third) = (scene.pod(&scene.commit, Some("key")), scene.pod("main", Some("other")));
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| scene.publish(&first));
        gate.wait_for(1);
        for credential in [Some("other"), Some("wrong"), None] {
            let expected = if credential == Some("other") { Kind::NotFound } else { Kind::Unauthenticated };
            assert_eq!(scene.refused(&scene.pod(&scene.commit, credential)), expected, "while the fetch is held");
        }
        let [second, third] = [&second, &third].map(|pod| scope.spawn(|| scene.publish(pod)));
        drop(gate);
        assert!(matches!(fetch.join().unwrap().unwrap().outcome, Outcome::Fetched { .. }));
        assert_eq!(second.join().unwrap().unwrap().outcome, Outcome::Hit);
        // A branch stands there, but the server gives the commit out to the key alone.
        assert_eq!(third.join().unwrap().unwrap_err().kind(), Kind::NotFound);
    });
    assert_eq!(scene.server.packs(), 1);
    scene.assert_refused(&scene.commit, &EVERYBODY[1..]);
}

#[test]
fn s23_a_commit_behind_a_branch_is_given_out_once_to_each_credential_and_named_to_no_other_server() {
    for protocol in [2, 0] {
        let mut scene = Scene::serving(|server, _| server.accept(OTHER).protocol(protocol), |_| {});
        let old = scene.commit.clone();
        scene.publish_new("main", Some("key")).unwrap();
        let hit = scene.publish_new("main", Some("other")).unwrap();
        assert_eq!((hit.outcome, hit.proof, scene.server.proofs()), (Outcome::Hit, Proof::Ref, 1));
        scene.publish_unasked(&scene.commit, "other");

        // Another repository takes the place of the first.
        scene.restart(Duration::ZERO);
        let successor = Repository::new("small");
        successor.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
        scene.server.add(&successor);
        scene.server.accept_only(&[]);
        scene.publish_new("main", None).unwrap();
        scene.server.settle();
        let requests = scene.server.requests();
        let fetch = requests.iter().rfind(|request| request.is_upload_pack()).unwrap();
        assert!(!fetch.says(&old), "nothing of the former owner is on offer");
    }
}

#[test]
fn s23_a_server_that_gives_out_no_commit_by_its_id_proves_it_by_a_fetch() {
    let scene = Scene::serving(|server, _| server.accept(OTHER).protocol(0), |_| {});
    scene.repository.refuse_commits_by_id();
    let old = scene.commit.clone();
    let new = scene.repository.commit("main", &Files::new().file("new", "new\n"));
    for key in ["key", "other"] {
        let packs = scene.server.packs();
        assert_eq!(scene.publish_new(&old, Some(key)).unwrap().proof, Proof::Commit);
        assert!(scene.server.packs() > packs, "the history has it, and nothing shorter tells");
        scene.publish_unasked(&old, key);
        // A ref stands at this one, so it is given out.
        scene.publish_new(&new, Some(key)).unwrap();
    }
    scene.assert_refused(&old, &EVERYBODY[2..]);
}

#[test]
fn s23_a_refusal_of_the_credential_voids_all_its_proofs() {
    let scene = Scene::new();
    let other = scene.repository.commit_unrelated("refs/heads/other", &Files::new().file("other", "other\n"));
    for revision in ["main", "other"] {
        scene.publish_new(revision, Some("key")).unwrap();
    }
    scene.publish_unasked(&other, "key");
    assert_eq!(scene.refused(&scene.pod(&"1".repeat(40), Some("key"))), Kind::NotFound);
    assert_eq!(scene.refused(&scene.pod("missing", Some("key"))), Kind::NotFound);
    for commit in [&other, &scene.commit] {
        scene.publish_unasked(commit, "key");
    }
    scene.server.accept_only(&[Credential::Bearer("changed")]);
    assert_eq!(scene.refused(&scene.pod("refs/heads/main", Some("key"))), Kind::Unauthenticated);
    for commit in [&other, &scene.commit] {
        assert_eq!(scene.refused(&scene.pod(commit, Some("key"))), Kind::Unauthenticated);
    }
}
