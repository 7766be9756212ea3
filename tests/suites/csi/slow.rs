//! Clones that take longer than the kubelet waits.

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Gate;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use tonic::Code;

use super::Scene;
use super::assert_says;

/// A time limit for calls. Calls that wait for a clone exceed it; all others end before it on any machine.
const LITTLE: Duration = Duration::from_secs(10);

const RUNNING: &str = "gitrepo_jobs{state=\"running\"}";

/// Begins to set up a volume and holds its clone at a gate until the kubelet's call times out.
fn begin(scene: &Scene, pod: &Pod, volume: &Volume) -> Gate {
    let gate = scene.server.hold(Request::is_upload_pack);
    scene.kubelet().limit_calls(LITTLE);
    let failed = scene.kubelet().set_up(pod, volume).unwrap_err();
    assert_eq!((failed.code, failed.is_final()), (Some(Code::DeadlineExceeded), false), "{failed:?}");
    assert_says(&failed, &["it has sent nothing of the pack yet", "a retry joins it"]);
    assert_eq!(gate.arrived(), 1);
    gate
}

#[test]
fn a_clone_continues_after_its_deadline_and_the_retry_joins_it() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = begin(&scene, &pod, &volume);
    assert_eq!(scene.node.metric(RUNNING), 1.0);
    let again = scene.kubelet().set_up(&pod, &volume).unwrap_err();
    assert_eq!(again.code, Some(Code::DeadlineExceeded), "{again:?}");
    gate.open();
    scene.kubelet().limit_calls(Duration::from_secs(120));
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    assert_eq!((scene.server.packs(), scene.node.metric(RUNNING)), (1, 0.0));
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn the_first_event_for_a_silent_server_comes_within_15_s_and_says_what_the_call_waits_for() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = scene.server.hold(|_| true);
    let begun = Instant::now();
    let failed = scene.kubelet().set_up(&pod, &volume).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!((failed.code, failed.is_final()), (Some(Code::DeadlineExceeded), false), "{failed:?}");
    let url = scene.url();
    let remote = url.split('/').nth(2).unwrap();
    assert_says(&failed, &[&format!("waiting for {remote}, for 1"), " s: it has not yet said", "a retry joins it"]);
    assert_eq!((gate.arrived(), scene.node.metric(RUNNING)), (1, 1.0), "the clone goes on");
    gate.open();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    assert_eq!(scene.server.packs(), 1);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_call_ends_when_the_driver_sees_its_pod_end_and_the_unpublish_ends_the_clone() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let directory = scene.kubelet().target(&pod, &volume).ancestors().nth(3).unwrap().to_owned();
    let token = directory.join("kubernetes.io~projected/kube-api-access");
    fs::create_dir_all(&token).unwrap();
    let gate = scene.server.hold(Request::is_upload_pack);
    let failed = thread::scope(|scope| {
        scope.spawn(|| {
            gate.wait_for(1);
            // The kubelet does this when it removes a pod.
            fs::remove_dir(&token).unwrap();
        });
        scene.kubelet().set_up(&pod, &volume).unwrap_err()
    });
    assert_eq!((failed.code, failed.is_final()), (Some(Code::DeadlineExceeded), false), "{failed:?}");
    assert_says(&failed, &["the pod is ending", "it has sent nothing of the pack yet", "a retry joins it"]);
    // The server still holds the clone.
    scene.kubelet().must_tear_down(&pod, &volume);
    assert_eq!(scene.node.metric(RUNNING), 0.0);
    fs::remove_dir(token.parent().unwrap()).unwrap();
    scene.node.assert_nothing_published();
}

#[test]
fn an_unpublish_ends_the_clone_of_its_volume() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = begin(&scene, &pod, &volume);
    scene.kubelet().limit_calls(Duration::from_secs(120));
    // The server still holds the clone.
    scene.kubelet().must_tear_down(&pod, &volume);
    assert_eq!(scene.node.metric(RUNNING), 0.0);
    scene.node.assert_nothing_published();
    gate.open();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_pod_that_waits_for_a_clone_keeps_it_when_another_gives_up() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let [first, second] = ["first", "second"].map(Pod::new);
    let gate = begin(&scene, &first, &volume);
    let failed = scene.kubelet().set_up(&second, &volume).unwrap_err();
    assert_eq!(failed.code, Some(Code::DeadlineExceeded), "{failed:?}");
    scene.kubelet().limit_calls(Duration::from_secs(120));
    // The server still holds the clone that the first pod began.
    scene.kubelet().must_tear_down(&first, &volume);
    gate.open();
    let target = scene.kubelet().must_set_up(&second, &volume);
    scene.assert_shown_on(&target);
    assert_eq!((scene.server.packs(), scene.node.metric(RUNNING)), (1, 0.0));
    scene.kubelet().must_tear_down(&second, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn the_retry_gets_the_error_of_a_clone_that_failed_between_calls() {
    let answer = |request: &Request| {
        if request.is_upload_pack() { Answer::status(403) } else { Answer::Git }
    };
    let Some(scene) = Scene::serving(|server| server.answer(answer)) else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = begin(&scene, &pod, &volume);
    gate.open();
    scene.kubelet().limit_calls(Duration::from_secs(120));
    let failed = scene.kubelet().set_up(&pod, &volume).unwrap_err();
    assert_eq!((failed.code, failed.is_final()), (Some(Code::PermissionDenied), true), "{failed:?}");
    scene.node.assert_nothing_published();
}

#[test]
fn a_different_request_for_the_target_of_a_running_clone_is_aborted() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = begin(&scene, &pod, &volume);
    let other = volume.clone().with_attribute("subdirectory", "other");
    let path = scene.kubelet().target(&pod, &volume);
    let failed = scene.kubelet().call_publish(other.request(&pod, path.to_str().unwrap())).unwrap_err();
    assert_eq!((failed.code, failed.is_final()), (Some(Code::Aborted), false), "{failed:?}");
    gate.open();
    scene.kubelet().limit_calls(Duration::from_secs(120));
    scene.kubelet().must_set_up(&pod, &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}
