//! Secrets are in no log, message, metric, file or process that others may see.

use std::path::Path;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Failed;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::process;
use serde_json::json;

use super::Scene;

const USERNAME: &str = "canary-user-4Wq7";
const PASSWORD: &str = "canary-password-9bXz";
const TOKEN: &str = "canary-token-2LmP";
/// Of the pod's service account, as `tokenRequests` would bring it.
const POD_TOKEN: &str = "canary-pod-token-8KsD";
/// Among certificates, which are public but nobody's business either.
const COMMENT: &str = "canary-comment-5RsV";

fn canaries() -> Canaries {
    Canaries::new(&[USERNAME, PASSWORD, TOKEN, POD_TOKEN, COMMENT]).with_login(USERNAME, PASSWORD)
}

fn assert_unseen(scene: &Scene) {
    let log = scene.node.log();
    assert!(log.contains("NodeGetCapabilities"), "the driver logs at level debug: {log}");
    canaries().assert_absent("the log", log.as_bytes());
    canaries().assert_absent("the metrics", scene.node.get("/metrics").1.as_bytes());
    canaries().assert_absent_below(scene.node.home());
    canaries().assert_absent_below(Path::new("/run/gitrepo"));
}

/// A scene whose server behind TLS knows the canaries, and volumes with the secrets that log in.
fn secured(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<(Scene, [Volume; 2])> {
    let authority = Authority::new();
    let identity = authority.issue_for_loopback();
    let closed = |server: HttpServerBuilder| {
        let server = server.tls(identity).accept(Credential::Basic(USERNAME, PASSWORD));
        change(server.accept(Credential::Bearer(TOKEN)))
    };
    let scene = Scene::configured(&json!({"limits": {"stall": "2s"}}), closed)?;
    let ca = format!("{COMMENT}\n{}", authority.ca_pem());
    let tokens = format!(r#"{{"":{{"token":"{POD_TOKEN}"}}}}"#);
    let volume = scene.inline("v").read_only().with_attribute("csi.storage.k8s.io/serviceAccount.tokens", &tokens);
    let volumes = [
        volume.clone().with_secret(&[("ca.crt", &ca), ("username", USERNAME), ("password", PASSWORD)]),
        volume.with_secret(&[("ca.crt", &ca), ("token", TOKEN)]),
    ];
    Some((scene, volumes))
}

/// Setting it up fails, which is told without a secret, and it is torn down.
fn fail(scene: &Scene, volume: &Volume) -> Failed {
    let pod = Pod::new("failing");
    let failed = scene.kubelet().set_up(&pod, volume).unwrap_err();
    canaries().assert_absent("the message", failed.message.as_bytes());
    scene.kubelet().tear_down(&pod, volume).unwrap();
    failed
}

#[test]
fn secrets_are_nowhere_when_all_goes_well() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    for volume in &volumes {
        let (pod, target) = scene.start_pod("pod", volume);
        scene.assert_shown_on(&target);
        assert_unseen(&scene);
        scene.kubelet().must_set_up(&pod, volume);
        scene.kubelet().must_tear_down(&pod, volume);
    }
    assert_unseen(&scene);
    scene.node.assert_nothing_published();
}

#[test]
fn secrets_are_nowhere_when_the_server_fails() {
    let answers: [fn(&Request) -> Answer; 4] = [
        |_| Answer::status(403),
        |_| Answer::status(500),
        |request| hostile::unauthorized_for_ever()(request),
        |request| hostile::pack_ends_midway(Ending::Silent)(request),
    ];
    for answer in answers {
        let Some((scene, volumes)) = secured(|server| server.answer(answer)) else { return };
        volumes.iter().for_each(|volume| drop(fail(&scene, volume)));
        assert_unseen(&scene);
        scene.node.assert_nothing_published();
    }
}

#[test]
fn secrets_are_nowhere_when_they_are_wrong() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    scene.server.accept_only(&[Credential::Basic("somebody", "else")]);
    let url = scene.url();
    let more = [
        scene.inline("v").with_secret(&[("token", TOKEN), ("username", USERNAME), ("password", PASSWORD)]),
        scene.inline("v").with_secret(&[("ca.crt", COMMENT)]),
        scene.inline("v").with_secret(&[("pasword", PASSWORD)]),
        scene.inline("v").with_secret(&[("ssh-privatekey", TOKEN)]),
        Volume::inline("v", &[("repository", &url.replace("//", &format!("//{USERNAME}:{PASSWORD}@")))]),
        Volume::inline("v", &[("repository", &format!("{url}?access_token={TOKEN}"))]),
    ];
    for volume in volumes.iter().chain(&more) {
        fail(&scene, volume);
    }
    assert_unseen(&scene);
    scene.node.assert_nothing_published();
}

#[test]
fn no_process_shows_a_secret_while_it_clones() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    let volume = &volumes[1];
    let pod = Pod::new("pod");
    let gate = scene.server.hold(|request| request.is_upload_pack() && request.authorization().is_some());
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| scene.kubelet().set_up(&pod, volume));
        gate.wait_for(1);
        let processes = process::with_descendants(scene.node.driver_id());
        assert!(processes.len() >= 2, "the driver and its worker: {processes:?}");
        for pid in processes {
            canaries().assert_absent("a process", &process::arguments_and_environment(pid));
        }
        assert_unseen(&scene);
        gate.open();
        publishing.join().unwrap().unwrap();
    });
    scene.kubelet().must_tear_down(&pod, volume);
    scene.node.assert_nothing_published();
}
