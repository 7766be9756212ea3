//! Access is proven for the commit, and the audit log says for whom and how.

use std::thread;

use gitrepo_tests::git;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use serde_json::Value;
use serde_json::json;

use super::Scene;

const FIRST: &str = "canary-first-4Kd8";
const SECOND: &str = "canary-second-7Tz1";

/// A scene whose server accepts both tokens.
fn scene<D: Driver>() -> Option<Scene<D>> {
    let accepting =
        |server: HttpServerBuilder| server.accept(Credential::Bearer(FIRST)).accept(Credential::Bearer(SECOND));
    Scene::configured(&json!({"credentialsOverHttp": true, "log": {"level": "error"}}), accepting)
}

impl<D: Driver> Scene<D> {
    fn volume(&self, revision: &str, token: &str) -> D::Volume {
        self.volume_of(revision, Some(token))
    }

    fn volume_of(&self, revision: &str, token: Option<&str>) -> D::Volume {
        let volume = self.inline("v").read_only().with("revision", revision);
        match token {
            Some(token) => volume.with_secret(&[("token", token)]),
            None => volume,
        }
    }

    /// Fails if one of these tenants gets one of these revisions.
    fn assert_refused_to(&self, tenants: &[Option<&str>], revisions: &[&str], words: &str) {
        for tenant in tenants {
            for revision in revisions {
                let pod = Pod::new("refused");
                let volume = self.volume_of(revision, *tenant);
                match self.node.set_up(&pod, &volume) {
                    Ok(()) => panic!("{tenant:?} gets {revision}: {}", self.node.log()),
                    Err(failed) => assert!(failed.to_string().contains(words), "{revision}: {failed}"),
                }
                self.node.give_up(&pod, &volume);
                assert!(!self.node.target(&pod, &volume).exists(), "{revision}: the directory stays");
            }
        }
    }

    /// Sets a volume up and tears it down.
    fn visit(&self, name: &str, revision: &str, token: &str) {
        let volume = self.volume(revision, token);
        let (pod, _) = self.start_pod(name, &volume);
        self.tear_down(&pod, &volume);
    }

    /// The audit log so far.
    fn audit(&self) -> Vec<Value> {
        let log = self.node.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "audit").collect()
    }
}

pub(super) fn s23_a_purged_commit_is_refused_to_a_pod_that_never_had_it<D: Driver>() {
    let Some(scene) = scene::<D>() else { return };
    scene.visit("first", "main", FIRST);
    scene.repository.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
    git::output(&mut scene.repository.git(["gc", "--quiet", "--prune=now"]));
    scene.visit("second", "main", SECOND);
    scene.assert_not_set_up(&scene.volume(&scene.commit, SECOND), &[&scene.commit, "does not give out"]);
    // Its proof is still fresh.
    scene.visit("first-again", &scene.commit, FIRST);
}

/// Tenants by their tokens. The first one may read the repository, and so may the second for a while.
const TENANTS: [Option<&str>; 4] = [Some(FIRST), Some(SECOND), Some("canary-of-another-repository-2Xp6"), None];

pub(super) fn s23_no_tenant_gets_a_byte_that_it_could_not_fetch_at_that_moment<D: Driver>() {
    let accepting =
        |server: HttpServerBuilder| server.accept(Credential::Bearer(FIRST)).accept(Credential::Bearer(SECOND));
    let configuration = json!({"credentialsOverHttp": true, "cache": {"accessTtl": "0s"}});
    let Some(mut scene) = Scene::<D>::configured(&configuration, accepting) else { return };
    scene.visit("first", "main", FIRST);
    scene.visit("second", "main", SECOND);
    scene.server.accept_only(&[Credential::Bearer(FIRST)]);

    for _ in 0..2 {
        scene.visit("cached", "main", FIRST);
        scene.visit("cached-by-id", &scene.commit, FIRST);
        scene.assert_refused_to(&TENANTS[1..], &["main", &scene.commit], "credential");
        scene.node.restart();
    }

    // While the first tenant's fetch is in flight.
    scene.commit = scene.repository.commit("main", &Files::new().file("second", "second\n"));
    let gate = scene.server.hold(Request::is_upload_pack);
    thread::scope(|scope| {
        let fetch = scope.spawn(|| scene.start_pod("fetching", &scene.volume("main", FIRST)));
        gate.wait_for(1);
        scene.assert_refused_to(&TENANTS[1..], &["main", &scene.commit], "credential");
        drop(gate);
        let (pod, target) = fetch.join().unwrap();
        scene.assert_shown_on(&target);
        scene.tear_down(&pod, &scene.volume("main", FIRST));
    });

    // After a purge, the first tenant may not fetch it either; nor may the next owner of the URL.
    let purged = scene.commit.clone();
    scene.commit = scene.repository.commit_unrelated("refs/heads/main", &Files::new().file("new", "new\n"));
    git::output(&mut scene.repository.git(["gc", "--quiet", "--prune=now"]));
    for _ in 0..2 {
        scene.assert_refused_to(&TENANTS[..1], &[&purged], &purged);
        scene.visit("after-the-purge", "main", FIRST);
        scene.node.restart();
    }
    let successor = Repository::new(scene.repository.name().trim_end_matches(".git"));
    successor.commit_unrelated("refs/heads/main", &Files::new().file("theirs", "theirs\n"));
    scene.server.add(&successor);
    scene.server.accept_only(&[]);
    scene.assert_refused_to(&TENANTS, &[&scene.commit], &scene.commit);
    let volume = scene.volume_of("main", None);
    let (pod, target) = scene.start_pod("next-owner", &volume);
    assert_same_tree(&successor, "main", ".", &target);
    scene.tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

pub(super) fn the_audit_log_names_who_got_what_and_what_proved_it<D: Driver>() {
    let Some(scene) = scene::<D>() else { return };
    let main = scene.volume("main", FIRST);
    let pod = Pod { service_account: "builder".to_owned(), ..Pod::new("first").in_namespace("team") };
    scene.set_up(&pod, &main);
    scene.node.call_publish(&pod, &main);
    scene.tear_down(&pod, &main);
    scene.visit("second", &scene.commit, SECOND);
    scene.assert_not_set_up(&scene.volume(&scene.commit, "canary-wrong-0Yq3"), &[]);
    scene.assert_not_set_up(&scene.volume(&"1".repeat(40), FIRST), &[]);

    let audit = scene.audit();
    let told: Vec<_> = audit
        .iter()
        .map(|line| {
            let pod = ["namespace", "pod", "service_account"].map(|field| line[field].as_str().unwrap());
            (line["message"].as_str().unwrap(), pod, line["proof"].as_str().unwrap())
        })
        .collect();
    let first = ["team", "first", "builder"];
    let others = |name| ["default", name, "default"];
    // A kubelet may repeat a refused call.
    assert_eq!(
        told[..3],
        [("published", first, "ref"), ("published", first, "record"), ("published", others("second"), "commit"),]
    );
    assert!(told[3..].iter().all(|line| *line == ("refused", others("failing"), "none")), "{told:?}");
    for line in &audit {
        assert_eq!(line["repository"], scene.url());
        assert!(!line["volume"].as_str().unwrap().is_empty());
        let credential = line["credential"].as_str().unwrap();
        assert!(credential.len() == 16 && credential.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
    let of = |proof: &str, field: &str| audit.iter().find(|line| line["proof"] == proof).unwrap()[field].clone();
    assert_eq!((of("ref", "revision"), of("commit", "revision")), (json!("main"), json!(scene.commit)));
    for proof in ["ref", "record", "commit"] {
        assert_eq!(of(proof, "commit"), json!(scene.commit));
    }
    assert_eq!(of("ref", "credential"), of("record", "credential"));
    assert_ne!(of("ref", "credential"), of("commit", "credential"));
    let refused: Vec<_> = audit.iter().filter(|line| line["proof"] == "none").collect();
    assert!(refused[0]["error"].as_str().unwrap().contains("refused the credential"), "{}", refused[0]);
    assert_eq!(refused.last().unwrap()["commit"], json!("1".repeat(40)));
    assert_eq!(refused.last().unwrap()["credential"], of("ref", "credential"));
    assert!(!scene.node.log().contains("canary-"), "a secret is in the log");
}
