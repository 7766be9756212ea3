//! Secrets come in argv, and are nowhere else, nor there for longer than it takes to read them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::process;
use gitrepo_tests::require;
use gitrepo_tests::ssh::Algorithm;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::Format;
use gitrepo_tests::ssh::SshServer;
use nix::sys::signal::Signal;
use serde_json::json;

use super::Scene;

const USERNAME: &str = "canary-user-4Wq7";
const PASSWORD: &str = "canary-password-9bXz";
const TOKEN: &str = "canary-token-2LmP";
const PASSPHRASE: &str = "canary-passphrase-7GhT";
/// Among certificates and host keys, which are public but nobody's business either.
const COMMENT: &str = "canary-comment-5RsV";

fn canaries() -> Canaries {
    Canaries::new(&[USERNAME, PASSWORD, TOKEN, PASSPHRASE, COMMENT]).with_login(USERNAME, PASSWORD)
}

/// Fails if any canary was said, logged or kept, by the driver or by the kubelet because of it.
fn assert_unseen(scene: &Scene, canaries: &Canaries) {
    canaries.assert_absent("the kubelet's log", scene.kubelet().log().as_bytes());
    assert!(!scene.node.log().is_empty(), "the driver logs at level debug");
    canaries.assert_absent("the log", scene.node.log().as_bytes());
    for place in ["/var/lib", "/var/log", "/etc/gitrepo", "/run/gitrepo"] {
        canaries.assert_absent_below(Path::new(place));
    }
    scene.kubelet().plugin().assert_untouched();
}

/// A scene whose server behind TLS knows the canaries, and the secrets that log in.
fn secured(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<(Scene, [Volume; 2])> {
    let authority = Authority::new();
    let identity = authority.issue_for_loopback();
    let closed = |server: HttpServerBuilder| {
        let server = server.tls(identity).accept(Credential::Basic(USERNAME, PASSWORD));
        change(server.accept(Credential::Bearer(TOKEN)))
    };
    let scene = Scene::serving(closed)?;
    scene.node.configure(&json!({"log": {"level": "trace"}, "limits": {"stall": "2s"}}));
    let ca = format!("{COMMENT}\n{}", authority.ca_pem());
    let volumes = [
        scene.inline("v").with_secret(&[("ca.crt", &ca), ("username", USERNAME), ("password", PASSWORD)]),
        scene.inline("v").with_secret(&[("ca.crt", &ca), ("token", TOKEN)]),
    ];
    Some((scene, volumes))
}

#[test]
fn secrets_are_in_no_log_answer_or_file_when_all_goes_well() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    for volume in volumes.iter().chain(&volumes.clone().map(Volume::read_only)) {
        let (pod, target) = scene.start_pod("pod", volume);
        scene.assert_shown_on(&target);
        assert_unseen(&scene, &canaries());
        scene.kubelet().must_tear_down(&pod, volume);
        assert_unseen(&scene, &canaries());
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn secrets_are_in_no_log_answer_or_file_when_the_server_fails() {
    let answers: [fn(&Request) -> Answer; 4] = [
        |_| Answer::status(403),
        |_| Answer::status(500),
        |request| hostile::unauthorized_for_ever()(request),
        |request| hostile::pack_ends_midway(Ending::Silent)(request),
    ];
    for answer in answers {
        let Some((scene, volumes)) = secured(|server| server.answer(answer)) else { return };
        for volume in &volumes {
            let reason = scene.assert_fails(volume, &[]);
            canaries().assert_absent("the answer", reason.as_bytes());
        }
        assert_unseen(&scene, &canaries());
    }
}

#[test]
fn secrets_are_in_no_log_answer_or_file_when_they_are_wrong() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    scene.server.accept_only(&[Credential::Basic("somebody", "else")]);
    let url = scene.url();
    let more = [
        scene.inline("v").with_secret(&[("token", TOKEN), ("username", USERNAME), ("password", PASSWORD)]),
        scene.inline("v").with_secret(&[("ca.crt", COMMENT)]),
        scene.inline("v").with_secret(&[("pasword", PASSWORD)]),
        scene.inline("v").with_secret(&[("ssh-privatekey", PASSPHRASE)]),
        Volume::inline("v", &[("repository", &url.replace("//", &format!("//{USERNAME}:{PASSWORD}@")))]),
        Volume::inline("v", &[("repository", &format!("{url}?access_token={TOKEN}"))]),
        scene.inline("v").with_forged_option("kubernetes.io/secret/token", TOKEN),
    ];
    for volume in volumes.iter().chain(&more) {
        let reason = scene.assert_fails(volume, &[]);
        canaries().assert_absent("the answer", reason.as_bytes());
    }
    assert_unseen(&scene, &canaries());
}

#[test]
fn ssh_secrets_are_in_no_log_answer_or_file() {
    if !require::tool("sshd") {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    scene.node.configure(&json!({"log": {"level": "trace"}}));
    let key = ClientKey::generate(Algorithm::Ed25519, Format::OpenSsh, Some(PASSPHRASE));
    let canaries = canaries().with_key(&key.private);
    let server = SshServer::start(&key);
    let known_hosts = format!("# {COMMENT}\n{}", server.known_hosts());
    let url = server.url(&scene.repository);
    let volume = |passphrase: &str, known_hosts: &str| {
        let keys = [("sshKey", &*key.private), ("ssh-passphrase", passphrase), ("known_hosts", known_hosts)];
        Volume::inline("v", &[("repo", &url)]).with_secret(&keys)
    };
    let good = volume(PASSPHRASE, &known_hosts);
    let (pod, target) = scene.start_pod("pod", &good);
    scene.assert_shown_on(&target);
    assert_unseen(&scene, &canaries);
    scene.kubelet().must_tear_down(&pod, &good);
    let other = SshServer::start(&ClientKey::new());
    for bad in [volume(TOKEN, &known_hosts), volume(PASSPHRASE, &other.known_hosts())] {
        let reason = scene.assert_fails(&bad, &[]);
        canaries.assert_absent("the answer", reason.as_bytes());
    }
    assert_unseen(&scene, &canaries);
}

#[test]
fn the_argument_list_is_wiped_and_no_child_gets_it() {
    let Some((scene, volumes)) = secured(|server| server) else { return };
    for volume in volumes {
        let gate = scene.server.hold(|request| request.is_upload_pack() && request.authorization().is_some());
        let pod = Pod::new("pod");
        let mounting = scene.kubelet().begin_set_up(&pod, &volume);
        gate.wait_for(1);
        let processes = process::with_descendants(mounting.id());
        assert!(processes.len() >= 2, "the driver and its worker: {processes:?}");
        for pid in processes {
            let shown = process::arguments_and_environment(pid);
            canaries().assert_absent("a process", &shown);
            assert!(!shown.windows(13).any(|window| window == b"kubernetes.io"), "{}", shown.escape_ascii());
        }
        assert_unseen(&scene, &canaries());
        // Nor do they come back when it is asked to end.
        mounting.signal(Signal::SIGTERM);
        let failed = mounting.wait().unwrap_err();
        canaries().assert_absent("the answer", failed.event.as_bytes());
        gate.open();
        assert_unseen(&scene, &canaries());
        scene.node.assert_nothing_set_up();
    }
}

#[test]
fn logs_are_root_s_alone_and_not_where_the_kubelet_looks_for_drivers() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v");
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.assert_fails(&scene.inline("v").with_option("revision", "no-such-branch"), &[]);
    let logs = scene.node.log_files();
    assert!(!logs.is_empty());
    for log in logs {
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", log.display());
    }
    let log = scene.node.log();
    assert!(log.contains(&scene.url()) && log.contains("no-such-branch"), "{log}");
    assert!(log.contains(&pod.uid), "which pod it was for: {log}");
    scene.kubelet().plugin().assert_untouched();
}

#[test]
fn only_a_server_that_asks_for_it_sees_a_credential() {
    let Some(scene) = Scene::new() else { return };
    let elsewhere = HttpServer::builder().serve(&scene.repository).accept(Credential::Bearer(TOKEN)).start();
    let base = format!("http://localhost:{}", elsewhere.port());
    let closed = HttpServer::builder()
        .serve(&scene.repository)
        .accept(Credential::Bearer(TOKEN))
        .answer(hostile::redirects_to(&base, 302))
        .start();
    let url = closed.url(&scene.repository);
    let volume = Volume::inline("v", &[("repository", &url)]).with_secret(&[("token", TOKEN)]);
    scene.assert_fails(&volume, &["redirect"]);
    assert_eq!(elsewhere.connections(), 0);
    assert_unseen(&scene, &canaries());
}
