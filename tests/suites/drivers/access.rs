//! Access is proven for the commit, and the audit log says for whom and how.

use gitrepo_tests::git;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
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
        self.inline("v").read_only().with("revision", revision).with_secret(&[("token", token)])
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
