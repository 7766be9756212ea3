//! Secrets are wiped from the driver's memory once a publish is over.

use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::residue::Residue;
use gitrepo_tests::ssh::ClientKey;
use tonic::Code;

use super::Scene;

/// Longer than a block of a hash, so that a hash leaves a part of it.
const TOKEN: &str =
    "canary-token-q7Zt0vGx4KpW2nYc9LrB5sHd8MfJ1eUaXo3iVbTgNwQmRkCzEyAhDlSjPuFO6-rest-of-the-canary-0Hk3Jm";
const WRONG: &str =
    "canary-wrong-w5Jb8cRz1TqN6xUe3DgY0mLk9AhVsPf2oCi7XtEyBnGjHrMaKlQdZvWuSOF4-rest-of-the-wrong-one-8Ty2Pq";

/// A time limit for calls whose server does not answer. All other calls end before it on any machine.
const LITTLE: Duration = Duration::from_secs(10);

/// The driver handles the end of a connection just after it has answered. A thread at rest ends later than this.
const PATIENCE: Duration = Duration::from_secs(6);

/// More time than a job takes to end.
const LONG: Duration = Duration::from_secs(120);

const RUNNING: &str = "gitrepo_jobs{state=\"running\"}";

/// A driver, a TLS server that accepts the token, and secrets to publish with.
struct Bench {
    scene: Scene,
    ca: String,
    key: ClientKey,
    residue: Residue,
}

impl Bench {
    fn new(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        let authority = Authority::new();
        let identity = authority.issue_for_loopback();
        let scene = Scene::serving(|server| change(server.tls(identity).accept(Credential::Bearer(TOKEN))))?;
        let key = ClientKey::new();
        let lines = key.private.lines().filter(|line| !line.starts_with("-----") && line.len() > 32);
        // The beginning of a key names its kind and is no secret.
        let lines: Vec<_> = lines.skip(1).chain([TOKEN, WRONG]).collect();
        let residue = Residue::of(&lines);
        Some(Self { scene, ca: authority.ca_pem(), residue, key })
    }

    /// A volume with a token, and with a key that an HTTPS server does not ask for.
    fn volume(&self, token: &str) -> Volume {
        let keys = [("ca.crt", &*self.ca), ("token", token), ("ssh-privatekey", &*self.key.private)];
        self.scene.inline("v").read_only().with_secret(&keys)
    }

    fn found(&self) -> Vec<String> {
        self.residue.in_memory(self.scene.node.driver_id())
    }

    fn assert_wiped(&self) {
        let begun = Instant::now();
        loop {
            // A search may take long, and shows what was there when it began.
            let is_last = begun.elapsed() >= PATIENCE;
            let found = self.found();
            if found.is_empty() {
                return;
            }
            assert!(!is_last, "{} parts of secrets stay in memory: {found:#?}", found.len());
            std::thread::yield_now();
        }
    }

    fn assert_not_wiped(&self) {
        assert!(!self.found().is_empty(), "the search finds secrets that are in use");
    }
}

#[test]
fn s13_no_secret_stays_in_memory_after_a_publish() {
    let Some(bench) = Bench::new(|server| server) else { return };
    let (kubelet, server) = (bench.scene.kubelet(), &bench.scene.server);
    let (pod, volume) = (Pod::new("pod"), bench.volume(TOKEN));
    let gate = server.hold(|request| request.is_upload_pack() && request.authorization().is_some());
    let target = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| kubelet.must_set_up(&pod, &volume));
        gate.wait_for(1);
        bench.assert_not_wiped();
        gate.open();
        publishing.join().unwrap()
    });
    bench.scene.assert_shown_on(&target);
    bench.assert_wiped();
    // Again, as after a restart of the kubelet, and for another pod.
    kubelet.must_set_up(&pod, &volume);
    let (other, _) = bench.scene.start_pod("other", &volume);
    kubelet.stats(&pod, &volume).unwrap();
    bench.assert_wiped();
    kubelet.must_tear_down(&other, &volume);
    kubelet.must_tear_down(&pod, &volume);
    bench.assert_wiped();
}

#[test]
fn s13_no_secret_stays_in_memory_after_a_failure() {
    let Some(bench) = Bench::new(|server| server) else { return };
    for (volume, code) in [
        (bench.volume(WRONG), Code::Unauthenticated),
        (bench.volume(TOKEN).with_attribute("revision", "no-such-branch"), Code::NotFound),
        (bench.volume(TOKEN).with_attribute("repository", "https://169.254.169.254/a"), Code::PermissionDenied),
        (bench.volume(TOKEN).with_attribute("revison", "main"), Code::InvalidArgument),
        (bench.volume(TOKEN).with_secret(&[("token", TOKEN), ("tokn", WRONG)]), Code::InvalidArgument),
        (bench.volume(TOKEN).with_secret(&[("token", TOKEN), ("ssh-privatekey", WRONG)]), Code::InvalidArgument),
    ] {
        bench.scene.assert_fails(&volume, code, &[]);
        bench.assert_wiped();
    }
}

/// The job fails when nobody waits for it any more, and its failure is kept for the next call.
#[test]
fn s13_no_secret_stays_in_memory_after_a_failure_that_nobody_waited_for() {
    let refuse = |request: &Request| if request.is_upload_pack() { Answer::status(403) } else { Answer::Git };
    let Some(bench) = Bench::new(|server| server.answer(refuse)) else { return };
    let (kubelet, server) = (bench.scene.kubelet(), &bench.scene.server);
    let (pod, volume) = (Pod::new("pod"), bench.volume(TOKEN));
    let gate = server.hold(Request::is_upload_pack);
    kubelet.limit_calls(LITTLE);
    assert_eq!(kubelet.set_up(&pod, &volume).unwrap_err().code, Some(Code::DeadlineExceeded));
    bench.assert_not_wiped();
    gate.open();
    let begun = Instant::now();
    while bench.scene.node.metric(RUNNING) > 0.0 {
        assert!(begun.elapsed() < LONG, "the job does not end");
        std::thread::yield_now();
    }
    bench.assert_wiped();
    kubelet.limit_calls(Duration::from_secs(120));
    let packs = server.upload_packs();
    assert_eq!(kubelet.set_up(&pod, &volume).unwrap_err().code, Some(Code::PermissionDenied));
    assert_eq!(server.upload_packs(), packs, "the failure was kept");
    bench.assert_wiped();
}

#[test]
fn s13_no_secret_stays_in_memory_after_an_unpublish_that_ends_a_publish() {
    let Some(bench) = Bench::new(|server| server) else { return };
    let kubelet = bench.scene.kubelet();
    let (pod, volume) = (Pod::new("pod"), bench.volume(TOKEN));
    let _gate = bench.scene.server.hold(Request::is_upload_pack);
    kubelet.limit_calls(LITTLE);
    assert_eq!(kubelet.set_up(&pod, &volume).unwrap_err().code, Some(Code::DeadlineExceeded));
    bench.assert_not_wiped();
    kubelet.limit_calls(Duration::from_secs(120));
    kubelet.must_tear_down(&pod, &volume);
    bench.assert_wiped();
    bench.scene.node.assert_nothing_published();
}
