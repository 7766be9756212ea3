//! The driver as a service of its node: registration, health pages, logs, shutdown and access to its sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::chain;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::person::NOBODY;
use gitrepo_tests::program;
use gitrepo_tests::program::Program;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::Scene;

const REGISTERED: &str = "gitrepo_registered";

/// The grace period plus what a busy machine may add to it.
const END: Duration = Duration::from_secs(60);

#[test]
fn the_kubelet_registers_the_driver_and_deregisters_it_only_when_it_stops() {
    let Some(scene) = Scene::new() else { return };
    assert_eq!(scene.kubelet().node_id(), "node-1");
    assert_eq!(scene.node.metric(REGISTERED), 1.0);
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    assert!(scene.node.stop_driver().success());
    assert!(!scene.kubelet().registration_socket().exists());
    let other = Pod::new("other");
    let failed = scene.kubelet().set_up(&other, &volume).unwrap_err();
    assert!(failed.message.contains("not found in the list of registered CSI drivers"), "{failed:?}");
    scene.assert_shown_on(&target);
    scene.node.start_driver();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        scene.kubelet().must_set_up(&other, &volume);
        scene.kubelet().must_tear_down(&other, &volume);
        scene.node.signal_driver(signal);
        assert!(scene.node.wait_for_driver().success());
        scene.node.start_driver();
    }
    // A killed driver leaves both sockets to its successor.
    scene.node.kill_driver();
    assert!(scene.kubelet().registration_socket().exists());
    scene.node.start_driver();
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn the_http_pages_show_health_readiness_and_metrics() {
    let Some(scene) = Scene::new() else { return };
    for page in ["/healthz", "/readyz"] {
        let (status, text) = scene.node.get(page);
        assert_eq!(status, 200, "{page}: {text}");
    }
    assert_eq!(scene.node.get("/debug").0, 404);
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    let (again, _) = scene.start_pod("again", &volume);
    scene.kubelet().must_set_up(&pod, &volume);
    let revision = volume.clone().with_attribute("revision", "mian");
    scene.kubelet().set_up(&Pod::new("failing"), &revision).unwrap_err();
    for pod in [pod, again] {
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    for (name, value) in [
        ("gitrepo_publishes_total{result=\"ok\",outcome=\"fetched\"}", 1.0),
        ("gitrepo_publishes_total{result=\"ok\",outcome=\"hit\"}", 1.0),
        ("gitrepo_publishes_total{result=\"ok\",outcome=\"already\"}", 1.0),
        ("gitrepo_publishes_total{result=\"notFound\",outcome=\"none\"}", 1.0),
        ("gitrepo_errors_total{method=\"NodePublishVolume\",kind=\"notFound\"}", 1.0),
        ("gitrepo_rpcs_total{method=\"NodePublishVolume\",code=\"NOT_FOUND\"}", 1.0),
        ("gitrepo_unpublishes_total{result=\"ok\"}", 2.0),
        ("gitrepo_jobs{state=\"running\"}", 0.0),
        ("gitrepo_snapshots", 1.0),
        ("gitrepo_store_up", 1.0),
    ] {
        assert_eq!(scene.node.metric(name), value, "{name}");
    }
    assert!(scene.node.metric("gitrepo_fetched_bytes_total") > 0.0);
    let (_, text) = scene.node.get("/metrics");
    assert!(!text.contains("127.0.0.1") && !text.contains("mian"), "labels contain no user input: {text}");
}

#[test]
fn the_log_and_the_metrics_name_the_format_of_volumes_and_why_it_is_no_image() {
    for choice in ["directory", "auto"] {
        let Some(scene) = Scene::configured(&json!({ "snapshotFormat": choice }), |server| server) else { return };
        let tried = LinuxMounter::new(scene.node.home().join("mounting")).check_images(scene.node.home());
        let reason = match choice {
            "directory" => Some("the configuration says \"snapshotFormat\": \"directory\"".to_owned()),
            _ => tried.as_ref().err().map(|error| chain(error).rsplit(": ").next().unwrap().to_owned()),
        };
        let format = if reason.is_some() { "directory" } else { "image" };
        let volume = scene.inline("v").read_only();
        let (pod, _) = scene.start_pod("pod", &volume);
        for name in ["image", "directory"] {
            let is_served = f64::from(u8::from(name == format));
            assert_eq!(
                scene.node.metric(&format!("gitrepo_snapshot_format{{format=\"{name}\"}}")),
                is_served,
                "{name}"
            );
        }
        assert_eq!(scene.node.metric(&format!("gitrepo_volumes_published_total{{format=\"{format}\"}}")), 1.0);
        let log = scene.node.log();
        let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line = lines.find(|line| line["message"] == "the format of new read-only volumes").expect("a line");
        assert_eq!(line["format"], format);
        let logged = line["reason"].as_str();
        assert!(
            logged.is_some() == reason.is_some() && logged.unwrap_or("").ends_with(&reason.unwrap_or_default()),
            "{line}"
        );
        let call = lines.find(|line| line["method"] == "NodePublishVolume").expect("a line");
        assert_eq!(call["format"], format);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
}

#[test]
fn s20_the_log_names_a_file_of_keys_that_cannot_be_used_when_the_driver_starts() {
    let place = TempDir::new().unwrap();
    let (bad, missing) = (place.path().join("bad.asc"), place.path().join("missing"));
    fs::write(&bad, "no key\n").unwrap();
    let signatures = json!([
        { "match": "https://git.example.com/a/*", "openpgpKeys": bad },
        { "match": "https://git.example.com/b/*", "allowedSigners": missing },
    ]);
    let Some(scene) = Scene::configured(&json!({ "signatures": signatures }), |server| server) else { return };
    // Other repositories are not touched.
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    let log = scene.node.log();
    for (pattern, file) in [("a/*", &bad), ("b/*", &missing)] {
        let line = log.lines().find(|line| line.contains(pattern)).expect("a line");
        let line = serde_json::from_str::<Value>(line).unwrap();
        let error = line["error"].as_str().unwrap();
        assert!(line["level"] == "ERROR" && error.contains(file.to_str().unwrap()), "{line}");
    }
}

#[test]
fn every_call_is_logged_in_one_line() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    let log = scene.node.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect();
    let publish = lines.iter().find(|line| line["method"] == "NodePublishVolume").expect("a line");
    assert_eq!(publish["volume"], *volume.id(&pod));
    assert_eq!(publish["target_path"], target.to_str().unwrap());
    assert_eq!((&publish["repository"], &publish["commit"]), (&scene.url().into(), &(*scene.commit).into()));
    assert!(publish["code"] == "OK" && publish["milliseconds"].is_u64() && publish["outcome"] == "fetched");
    let unpublish = lines.iter().find(|line| line["method"] == "NodeUnpublishVolume").expect("a line");
    assert!(unpublish["code"] == "OK" && unpublish["volume"] == *volume.id(&pod), "{unpublish}");
}

#[test]
fn a_driver_stopped_during_a_clone_answers_the_call_and_undoes_the_clone_before_it_ends() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = scene.server.hold(Request::is_upload_pack);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| scene.kubelet().set_up(&pod, &volume));
        gate.wait_for(1);
        let begun = Instant::now();
        assert!(scene.node.stop_driver().success(), "{}", scene.node.log());
        assert!(begun.elapsed() < END, "{:?}", begun.elapsed());
        let failed = publishing.join().unwrap().unwrap_err();
        assert!(!failed.is_final(), "the kubelet must retry: {failed:?}");
    });
    for socket in
        [scene.kubelet().registration_socket(), scene.kubelet().root().join("plugins/csi.gitrepo.internal/csi.sock")]
    {
        assert!(!socket.exists(), "{}", socket.display());
    }
    assert!(scene.node.mounts().is_empty());
    gate.open();
    scene.node.start_driver();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_second_driver_on_the_same_socket_is_refused_and_the_first_keeps_running() {
    let Some(scene) = Scene::new() else { return };
    let second = Program::new(program::executable("gitrepo-csi")).run(scene.node.flags());
    assert_eq!(second.code(), 75, "{second:?}");
    assert!(second.stderr.contains("csi.sock"), "{}", second.stderr);
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    assert!(scene.kubelet().registration_socket().exists());
    scene.node.assert_nothing_published();
}

#[test]
fn both_sockets_refuse_another_user() {
    let Some(scene) = Scene::new() else { return };
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for socket in [scene.kubelet().endpoint(), scene.kubelet().registration_socket()] {
        for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with("/tmp") && *path != "/tmp") {
            open(directory, 0o755);
        }
        open(&socket, 0o666);
        let dial = || Program::new(PathBuf::from(env!("CARGO_BIN_EXE_gitrepo-test-dial")));
        assert_eq!(dial().run([&socket]).assert_success().stdout, "9\n", "root is answered");
        let nobody = dial().run_by(Uid::from_raw(NOBODY)).run([&socket]).assert_success();
        assert_eq!(nobody.stdout, "0\n", "{}", socket.display());
    }
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
}

#[test]
fn a_driver_with_wrong_flags_says_why_and_does_not_start() {
    let Some(scene) = Scene::new() else { return };
    let run = |flag: &str| {
        let mut flags = scene.node.flags();
        flags.push(flag.into());
        let name = flag.split('=').next().unwrap();
        let mut seen = false;
        // A flag may be given only once: keep the last of each.
        flags.reverse();
        flags.retain(|given| !given.to_str().unwrap().starts_with(name) || !std::mem::replace(&mut seen, true));
        Program::new(program::executable("gitrepo-csi")).run(&flags)
    };
    let missing = format!("--config={}/missing.json", scene.node.home().display());
    for (flag, code, words) in [
        ("--node-id=", 64, "--node-id"),
        ("--endpoint=tcp://127.0.0.1:1", 64, "--endpoint"),
        ("--driver-name=UPPER", 64, "--driver-name"),
        (&*missing, 64, "missing.json"),
    ] {
        let outcome = run(flag);
        assert_eq!(outcome.code(), code, "{flag}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{flag}: {}", outcome.stderr);
    }
}
