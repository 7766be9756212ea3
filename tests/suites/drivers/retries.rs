//! The kubelet tries a volume of a pod again until it works. Each try tells what is wrong now, and once nothing is, the
//! volume is set up: no earlier failure stands in its way.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use serde_json::json;

use super::Scene;

const RIGHT: &str = "right";
const LATER: &str = "later";

pub(super) fn a_volume_that_failed_is_set_up_once_its_cause_is_gone<D: Driver>() {
    let busy = Arc::new(AtomicBool::new(false));
    let is_busy = Arc::clone(&busy);
    let serve = |server: HttpServerBuilder| {
        server.accept(Credential::Bearer(RIGHT)).answer(move |_| match is_busy.load(Ordering::SeqCst) {
            true => Answer::Status { status: 503, headers: Vec::new() },
            false => Answer::Git,
        })
    };
    let Some(scene) = Scene::<D>::configured(&json!({ "credentialsOverHttp": true }), serve) else { return };
    let with_token = |volume: D::Volume, token: &str| volume.with_secret(&[("token", token)]);
    // Also the second time the cause is told, and not that something failed before.
    let fails_twice = |pod: &Pod, volume: &D::Volume, words: &str| {
        for _ in 0..2 {
            let failed = scene.node.set_up(pod, volume).expect_err(words).to_string();
            assert!(failed.contains(words), "{words:?} is not in {failed:?}");
        }
    };
    let succeeds = |pod: &Pod, volume: &D::Volume| {
        let target = scene.set_up(pod, volume);
        scene.assert_shown_on(&target);
        scene.tear_down(pod, volume);
    };
    let volume = with_token(scene.inline("v"), RIGHT);

    // A branch that is pushed later.
    let (pod, coming) = (Pod::new("branch"), volume.clone().with("revision", "coming"));
    fails_twice(&pod, &coming, "coming");
    scene.repository.set_branch("coming", &scene.commit);
    succeeds(&pod, &coming);

    // A secret that is corrected.
    let pod = Pod::new("secret");
    fails_twice(&pod, &with_token(scene.inline("v"), "wrong"), "refuse");
    succeeds(&pod, &volume);

    // A credential that the server takes later.
    let (pod, early) = (Pod::new("server"), with_token(scene.inline("v"), LATER));
    fails_twice(&pod, &early, "refuse");
    scene.server.accept_only(&[RIGHT, LATER].map(Credential::Bearer));
    succeeds(&pod, &early);

    // A server that is busy for a while: the kubelet does not know whether the volume was set up.
    busy.store(true, Ordering::SeqCst);
    let pod = Pod::new("busy");
    // A name that it was not asked for yet.
    let asked = with_token(scene.inline("v"), RIGHT).with("revision", "refs/heads/main");
    fails_twice(&pod, &asked, "503");
    busy.store(false, Ordering::SeqCst);
    succeeds(&pod, &asked);

    // A repository that is created later.
    let repository = Repository::new("created-later");
    repository.commit("main", &Files::new().file("README.md", "# Small\n"));
    let options = [("repository", &*scene.server.url(&repository)), ("directory", ".")];
    let (pod, later) = (Pod::new("repository"), with_token(D::inline("v", &options), RIGHT));
    fails_twice(&pod, &later, "no such repository");
    scene.server.add(&repository);
    let target = scene.set_up(&pod, &later);
    assert_eq!(super::read(target.join("README.md")), "# Small\n");
    scene.tear_down(&pod, &later);
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_new_volume_shows_where_the_branch_went_back_to<D: Driver>() {
    let Some(scene) = Scene::<D>::configured(&json!({ "cache": { "accessTtl": "0s" } }), |server| server) else {
        return;
    };
    let newer = scene.repository.commit("main", &Files::new().file("README.md", "# Newer\n"));
    let volume = scene.inline("v").read_only().with("revision", "main").with("gitDir", "keep");
    let (before, shown_before) = scene.start_pod("before", &volume);
    assert_eq!(super::read(shown_before.join("README.md")), "# Newer\n");
    scene.repository.set_branch("main", &scene.commit);
    let (after, shown_after) = scene.start_pod("after", &volume);
    for (target, commit) in [(&shown_before, &newer), (&shown_after, &scene.commit)] {
        assert_clean(target);
        // Without `depth`, there is one commit.
        assert_whole(target, &scene.repository, commit, 1);
    }
    scene.tear_down(&before, &volume);
    scene.tear_down(&after, &volume);
    scene.node.assert_nothing_set_up();
}
