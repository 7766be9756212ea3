//! What new volumes get while the remote is away: `offline`.

use std::sync::atomic::AtomicBool;

use gitrepo_core::lease::Proof;
use gitrepo_core::policy::Offline;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::Request;
use gitrepo_tests::pktline;

use super::*;

/// A scene whose proofs expire at once.
fn scene(offline: Offline) -> Scene {
    Scene::serving(
        |server, _| server.accept(OTHER),
        |config| {
            config.cache.access_ttl = Duration::ZERO;
            config.offline = offline;
        },
    )
}

/// The pods of a scene, and what they requested, after its server went away.
struct Away {
    scene: Scene,
    url: String,
}

impl Away {
    fn new(mut scene: Scene) -> Self {
        let url = scene.url();
        // A new port: nobody listens on the old one.
        scene.server = HttpServer::builder().start();
        assert_ne!(scene.url(), url);
        Self { scene, url }
    }

    fn publish(&self, revision: &str, key: Option<&str>) -> Result<Published, PublishError> {
        let request = at(read_only(&self.url, &self.scene.new_target()), revision);
        self.scene.node.publish_as(&request, &token(key))
    }

    fn assert_refused(&self, revision: &str, key: Option<&str>) {
        assert_eq!(self.publish(revision, key).unwrap_err().kind(), Kind::Unavailable, "{revision} {key:?}");
    }
}

#[test]
fn by_default_an_expired_proof_serves_nothing_while_the_remote_is_away() {
    let scene = scene(Offline::Refuse);
    scene.publish_new("main", Some("key")).unwrap();
    let (commit, away) = (scene.commit.clone(), Away::new(scene));
    for revision in ["main", &commit] {
        away.assert_refused(revision, Some("key"));
    }
}

#[test]
fn with_offline_stale_an_expired_proof_serves_what_is_cached_while_the_remote_is_away() {
    let scene = scene(Offline::Stale);
    let old = scene.commit.clone();
    scene.publish_new("main", Some("key")).unwrap();
    let new = scene.repository.commit("main", &Files::new().file("new", "new\n"));
    scene.publish_new("main", Some("key")).unwrap();
    let unseen = scene.repository.commit("unseen", &Files::new().file("unseen", "unseen\n"));
    // Served, but not to this credential.
    let others = scene.repository.commit_unrelated("refs/heads/others", &Files::new().file("others", "others\n"));
    scene.publish_new("others", Some("other")).unwrap();

    let mut away = Away::new(scene);
    for (revision, commit) in [("main", &new), (&new, &new), (&old, &old)] {
        let stale = away.publish(revision, Some("key")).unwrap();
        assert_eq!((stale.commit.to_string(), stale.proof), (commit.clone(), Proof::Offline), "{revision}");
        assert_eq!(stale.outcome, Outcome::Hit);
    }
    for revision in ["unseen", "others", "HEAD", &unseen, &others] {
        away.assert_refused(revision, Some("key"));
    }
    for key in [Some("other"), Some("wrong"), None] {
        for revision in ["main", &new] {
            away.assert_refused(revision, key);
        }
    }

    // After a restart of the driver, but not of the node.
    let stale = |config: &mut Config| (config.cache.access_ttl, config.offline) = (Duration::ZERO, Offline::Stale);
    away.scene.node = configured(&away.scene.place, stale);
    assert_eq!(away.publish("main", Some("key")).unwrap().proof, Proof::Offline);
    volumes::forget_boot(away.scene.node.store());
    for revision in ["main", &new] {
        away.assert_refused(revision, Some("key"));
    }
}

#[test]
fn with_offline_stale_nothing_is_served_after_a_refusal() {
    // The credential is refused.
    let first = scene(Offline::Stale);
    first.publish_new("main", Some("key")).unwrap();
    first.server.accept_only(&[Credential::Bearer("changed")]);
    assert_eq!(first.refused(&first.pod("main", Some("key"))), Kind::Unauthenticated);
    let (commit, away) = (first.commit.clone(), Away::new(first));
    for revision in ["main", &commit] {
        away.assert_refused(revision, Some("key"));
    }

    // The branch is gone, and its commit is not given out any more. Another branch is still there.
    let second = scene(Offline::Stale);
    let other = second.repository.commit_unrelated("refs/heads/other", &Files::new().file("other", "other\n"));
    for revision in ["main", "other"] {
        second.publish_new(revision, Some("key")).unwrap();
    }
    second.repository.delete_branch("main");
    gitrepo_tests::git::output(&mut second.repository.git(["gc", "--quiet", "--prune=now"]));
    for revision in ["main", &second.commit] {
        assert_eq!(second.refused(&second.pod(revision, Some("key"))), Kind::NotFound, "{revision}");
    }
    let (commit, away) = (second.commit.clone(), Away::new(second));
    for revision in ["main", &commit] {
        away.assert_refused(revision, Some("key"));
    }
    for revision in ["other", &other] {
        assert_eq!(away.publish(revision, Some("key")).unwrap().proof, Proof::Offline, "{revision}");
    }
}

#[test]
fn with_offline_stale_only_a_remote_that_does_not_answer_is_away() {
    for (answer, is_away) in [
        (Answer::status(503), true),
        (Answer::status(402), false),
        (Answer::status(429), false),
        (Answer::tampered(|_| (pktline::packet("ERR this account is suspended"), Ending::Complete)), false),
    ] {
        let fails = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&fails);
        let answering = move |_: &Request| if switch.load(Ordering::Relaxed) { answer.clone() } else { Answer::Git };
        let scene = Scene::serving(
            |server, _| server.answer(answering),
            |config| {
                config.cache.access_ttl = Duration::ZERO;
                config.offline = Offline::Stale;
            },
        );
        scene.publish_new("main", Some("key")).unwrap();
        fails.store(true, Ordering::Relaxed);
        for revision in ["main", &scene.commit] {
            match scene.publish_new(revision, Some("key")) {
                Ok(stale) => assert!(is_away && stale.proof == Proof::Offline, "{revision}: {stale:?}"),
                Err(error) => assert!(!is_away && error.kind() == Kind::Unavailable, "{revision}: {error}"),
            }
        }
    }
}
