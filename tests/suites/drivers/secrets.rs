//! No log, message, metric or file contains a secret, whether the volume works or fails.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::require;
use gitrepo_tests::ssh::Algorithm;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::Format;
use gitrepo_tests::ssh::SshServer;
use serde_json::Value;
use serde_json::json;

use super::Scene;

const USERNAME: &str = "canary-user-4Wq7";
const PASSWORD: &str = "canary-password-9bXz";
pub(crate) const TOKEN: &str = "canary-token-2LmP";
const PASSPHRASE: &str = "canary-passphrase-7GhT";
/// A comment among certificates and host keys. These are public, but must not be shown either.
const COMMENT: &str = "canary-comment-5RsV";
/// The token of the pod's service account.
const POD_TOKEN: &str = "canary-pod-token-8KsD";

pub(crate) fn canaries() -> Canaries {
    let words = [USERNAME, PASSWORD, TOKEN, PASSPHRASE, COMMENT, POD_TOKEN];
    Canaries::new(&words).with_login(USERNAME, PASSWORD)
}

/// A scene with a TLS server that accepts the canaries, and volumes with a password and with a token.
pub(crate) fn secured<D: Driver>(
    change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder,
) -> Option<(Scene<D>, [D::Volume; 2])> {
    secured_and_configured(&json!({}), change)
}

fn secured_and_configured<D: Driver>(
    configuration: &Value,
    change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder,
) -> Option<(Scene<D>, [D::Volume; 2])> {
    let authority = Authority::new();
    let identity = authority.issue_for_loopback();
    let closed = |server: HttpServerBuilder| {
        let server = server.tls(identity).accept(Credential::Basic(USERNAME, PASSWORD));
        change(server.accept(Credential::Bearer(TOKEN)))
    };
    let scene = Scene::<D>::configured(configuration, closed)?;
    let ca = format!("{COMMENT}\n{}", authority.ca_pem());
    let volume = scene.inline("v").with_pod_token(POD_TOKEN);
    let volumes = [
        volume.clone().with_secret(&[("ca.crt", &ca), ("username", USERNAME), ("password", PASSWORD)]),
        volume.with_secret(&[("ca.crt", &ca), ("token", TOKEN)]),
    ];
    Some((scene, volumes))
}

/// Asserts that setting the volume up fails, with a message that contains no secret.
fn assert_fails_without_secrets_in_the_message<D: Driver>(scene: &Scene<D>, volume: &D::Volume, canaries: &Canaries) {
    let failed = scene.assert_not_set_up(volume, &[]);
    canaries.assert_absent("the message", format!("{failed} {failed:?}").as_bytes());
}

pub(super) fn secrets_do_not_leak_when_the_volume_works<D: Driver>() {
    let Some((scene, volumes)) = secured::<D>(|server| server) else { return };
    for volume in volumes.iter().chain(&volumes.clone().map(Manifest::read_only)) {
        let (pod, target) = scene.start_pod("pod", volume);
        scene.assert_shown_on(&target);
        scene.node.assert_unseen(&canaries());
        scene.node.look_after(&pod, volume);
        scene.tear_down(&pod, volume);
        scene.node.assert_unseen(&canaries());
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn secrets_do_not_leak_when_the_server_fails<D: Driver>() {
    let answers: [fn(&Request) -> Answer; 4] = [
        |_| Answer::status(403),
        |_| Answer::status(500),
        |request| hostile::unauthorized_for_ever()(request),
        |request| hostile::pack_ends_midway(Ending::Silent)(request),
    ];
    let impatient = json!({"limits": {"stall": "2s"}});
    for answer in answers {
        let failing = secured_and_configured::<D>(&impatient, |server| server.answer(answer));
        let Some((scene, volumes)) = failing else { return };
        for volume in &volumes {
            assert_fails_without_secrets_in_the_message(&scene, volume, &canaries());
        }
        scene.node.assert_unseen(&canaries());
    }
}

pub(super) fn secrets_do_not_leak_when_they_are_wrong<D: Driver>() {
    let Some((scene, volumes)) = secured::<D>(|server| server) else { return };
    scene.server.accept_only(&[Credential::Basic("somebody", "else")]);
    let url = scene.url();
    let more = [
        scene.inline("v").with_secret(&[("token", TOKEN), ("username", USERNAME), ("password", PASSWORD)]),
        scene.inline("v").with_secret(&[("ca.crt", COMMENT)]),
        scene.inline("v").with_secret(&[("pasword", PASSWORD)]),
        scene.inline("v").with_secret(&[("ssh-privatekey", PASSPHRASE)]),
        D::inline("v", &[("repository", &url.replace("//", &format!("//{USERNAME}:{PASSWORD}@")))]),
        D::inline("v", &[("repository", &format!("{url}?access_token={TOKEN}"))]),
    ];
    for volume in volumes.iter().chain(&more) {
        assert_fails_without_secrets_in_the_message(&scene, volume, &canaries());
    }
    scene.node.assert_unseen(&canaries());
}

pub(super) fn ssh_secrets_do_not_leak<D: Driver>() {
    if !require::tool("sshd") {
        return;
    }
    let Some(scene) = Scene::<D>::new() else { return };
    let key = ClientKey::generate(Algorithm::Ed25519, Format::OpenSsh, Some(PASSPHRASE));
    let canaries = canaries().with_key(&key.private);
    let server = SshServer::start(&key);
    let known_hosts = format!("# {COMMENT}\n{}", server.known_hosts());
    let url = server.url(&scene.repository);
    let volume = |passphrase: &str, known_hosts: &str| {
        let keys = [(D::SSH_KEY, &*key.private), ("ssh-passphrase", passphrase), ("known_hosts", known_hosts)];
        D::inline("v", &[("repository", &url), ("directory", ".")]).with_secret(&keys)
    };
    let good = volume(PASSPHRASE, &known_hosts);
    let (pod, target) = scene.start_pod("pod", &good);
    scene.assert_shown_on(&target);
    scene.node.assert_unseen(&canaries);
    scene.tear_down(&pod, &good);
    let other = SshServer::start(&ClientKey::new());
    for bad in [volume(TOKEN, &known_hosts), volume(PASSPHRASE, &other.known_hosts())] {
        assert_fails_without_secrets_in_the_message(&scene, &bad, &canaries);
    }
    scene.node.assert_unseen(&canaries);
}

pub(super) fn a_credential_is_sent_only_to_a_server_that_asks_for_it<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let elsewhere = HttpServer::builder().serve(&scene.repository).accept(Credential::Bearer(TOKEN)).start();
    let base = format!("http://localhost:{}", elsewhere.port());
    let closed = HttpServer::builder()
        .serve(&scene.repository)
        .accept(Credential::Bearer(TOKEN))
        .answer(hostile::redirects_to(&base, 302))
        .start();
    let url = closed.url(&scene.repository);
    let volume = D::inline("v", &[("repository", &url)]).with_secret(&[("token", TOKEN)]);
    scene.assert_not_set_up(&volume, &["redirect"]);
    assert_eq!(elsewhere.connections(), 0);
    scene.node.assert_unseen(&canaries());
}
