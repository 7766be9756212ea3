//! A driver that is asked to stop while it clones.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use nix::sys::signal::Signal;
use tonic::Code;

use super::Scene;
use super::assert_says;

/// Less time than a driver takes to stop if it waits for a clone.
const AT_ONCE: Duration = Duration::from_secs(8);

/// More time than anything here takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a pack takes if only its beginning is to arrive.
const VERY_LONG: Duration = Duration::from_secs(300);

/// Begins to publish a volume of many files whose pack takes this long, and returns when an event says `words`. Then no
/// call waits for the clone.
fn begin(time: Duration, words: &str) -> Option<(Scene, Pod, Volume)> {
    let slow = move |request: &Request| match request.path.contains("many") {
        true => Answer::Slow(time),
        false => Answer::Git,
    };
    let scene = Scene::serving(|server| server.answer(slow))?;
    let repository = fixtures::many(500);
    scene.server.add(&repository);
    let volume = scene.inline("v").read_only().with_attribute("repository", &scene.server.url(&repository));
    let (pod, begun) = (Pod::new("pod"), Instant::now());
    scene.kubelet().limit_calls(Duration::from_secs(1));
    loop {
        let failed = scene.kubelet().set_up(&pod, &volume).expect_err("it takes longer");
        if failed.message.contains(words) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the pack does not arrive: {failed:?}");
    }
    scene.kubelet().limit_calls(Duration::from_secs(120));
    Some((scene, pod, volume))
}

/// Counts `words` in the driver's log.
fn times(scene: &Scene, words: &str) -> usize {
    scene.node.log().matches(words).count()
}

fn wait_for_log(scene: &Scene, words: &str, enough: usize) {
    let begun = Instant::now();
    while times(scene, words) < enough {
        assert!(begun.elapsed() < PATIENCE, "the driver does not log {words:?}: {}", scene.node.log());
        thread::yield_now();
    }
}

#[test]
fn a_clone_near_its_end_is_finished_before_the_driver_stops() {
    let Some((scene, pod, volume)) = begin(Duration::from_secs(6), " of about ") else { return };
    assert!(scene.node.stop_driver().success());
    scene.node.start_driver();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    assert!(target.read_dir().unwrap().next().is_some());
    assert_eq!(scene.server.packs(), 1, "the successor fetches no pack");
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_clone_far_from_its_end_is_given_up_and_the_loss_is_logged() {
    let Some((scene, pod, volume)) = begin(VERY_LONG, "received ") else { return };
    let begun = Instant::now();
    assert!(scene.node.stop_driver().success());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let log = scene.node.log();
    assert!(
        log.contains("given up because the driver is stopping: a pack is kept only if it was received completely"),
        "{log}"
    );
    scene.node.start_driver();
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_stopping_driver_publishes_cached_trees_and_a_second_signal_ends_it_at_once() {
    let Some((scene, pod, volume)) = begin(VERY_LONG, "received ") else { return };
    let (cached, late) = (scene.inline("v").read_only(), Pod::new("late"));
    scene.kubelet().must_set_up(&Pod::new("early"), &cached);
    // Without a waiting call, the publish would be given up at the first signal.
    let (kubelet, joined) = (scene.kubelet(), times(&scene, "a call joins the publish in flight"));
    let heard = thread::scope(|scope| {
        let waiting = scope.spawn(|| kubelet.set_up(&pod, &volume).unwrap_err());
        wait_for_log(&scene, "a call joins the publish in flight", joined + 1);
        scene.node.signal_driver(Signal::SIGTERM);
        wait_for_log(&scene, "publishes that can end within these seconds may finish", 1);
        let target = kubelet.must_set_up(&late, &cached);
        assert!(target.read_dir().unwrap().next().is_some());
        scene.node.signal_driver(Signal::SIGTERM);
        waiting.join().unwrap()
    });
    let begun = Instant::now();
    assert!(scene.node.wait_for_driver().success());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(heard.code, Some(Code::Unavailable), "{heard:?}");
    assert_says(
        &heard,
        &["the driver is stopping (received ", "so the received part is lost", "the next driver serves a retry"],
    );
    assert!(scene.node.log().contains("stopping at once"), "{}", scene.node.log());
}
