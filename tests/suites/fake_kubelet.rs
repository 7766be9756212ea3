//! The harness's kubelet treats a driver like the real one, tested with drivers of a few lines of shell.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::PathBuf;

use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Failed;
use gitrepo_tests::kubelet::flex::Kubelet;
use gitrepo_tests::kubelet::flex::Plugin;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::namespace;
use gitrepo_tests::require;
use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// An answer to `init` after which the kubelet calls only `mount` and `unmount`.
const READY: &str = r#"{"status":"Success","capabilities":{"attach":false,"selinuxRelabel":false,"fsGroup":false}}"#;
const SUCCESS: &str = r#"{"status":"Success"}"#;

/// A place for a driver and for pods.
struct Scene {
    place: TempDir,
    plugin: Plugin,
}

impl Scene {
    /// With a driver that runs these lines for its commands.
    fn new(init: &str, mount: &str, unmount: &str) -> Self {
        let place = TempDir::new().unwrap();
        let plugin = Plugin::new(&place.path().join("exec"), "example.org", "git");
        fs::create_dir_all(plugin.directory()).unwrap();
        let script =
            format!("#!/bin/sh\ncase $1 in\ninit) {init} ;;\nmount) {mount} ;;\nunmount) {unmount} ;;\nesac\n");
        fs::write(plugin.executable(), script).unwrap();
        fs::set_permissions(plugin.executable(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { place, plugin }
    }

    fn saying(init: &str, mount: &str, unmount: &str) -> Self {
        let [init, mount, unmount] = [init, mount, unmount].map(|answer| format!("echo '{answer}'"));
        Self::new(&init, &mount, &unmount)
    }

    fn root(&self) -> PathBuf {
        self.place.path().join("kubelet")
    }

    fn strict(&self) -> Kubelet {
        Kubelet::start(&self.root(), self.plugin.clone())
    }

    fn tolerant(&self) -> Result<Kubelet, Failed> {
        Kubelet::start_tolerant(&self.root(), self.plugin.clone())
    }
}

fn volume() -> Volume {
    Volume::inline("v", &[("repository", "https://git.example.org/a")])
}

fn assert_fails_test(what: &str, act: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(act)).is_err(), "{what} must fail the test");
}

#[test]
fn a_driver_is_called_as_by_the_real_kubelet() {
    let look = "pwd; echo \"$HOME\"; readlink /proc/$$/fd/0; test /proc/$$/fd/1 -ef /proc/$$/fd/2 && echo one; echo $#";
    let scene = Scene::new(&format!("echo '{READY}'"), look, look);
    let kubelet = scene.tolerant().unwrap();
    let (pod, volume) = (Pod::new("pod"), volume());
    let failed = kubelet.set_up(&pod, &volume).unwrap_err();
    assert!(failed.event.starts_with("MountVolume.SetUp failed for volume \"v\" : "), "{failed:?}");
    let log = kubelet.log();
    assert!(log.contains(r#""/\n\n/dev/null\none\n3\n""#), "{log}");
    assert!(!kubelet.target(&pod, &volume).exists(), "the failure removes the directory");
    assert_eq!(kubelet.calls(), ["init", "mount"]);
}

#[test]
fn the_directory_is_made_before_mount_and_removed_after_unmount() {
    let scene = Scene::new(&format!("echo '{READY}'"), &format!("stat -c %a $2 >&9; echo '{SUCCESS}'"), "");
    let seen = scene.place.path().join("seen");
    let script = fs::read_to_string(scene.plugin.executable()).unwrap().replace(">&9", &format!(">{}", seen.display()));
    fs::write(scene.plugin.executable(), script.replace("unmount) ", &format!("unmount) echo '{SUCCESS}'"))).unwrap();
    let kubelet = scene.strict();
    let (pod, volume) = (Pod::new("pod"), volume());
    let target = kubelet.must_set_up(&pod, &volume);
    assert_eq!(fs::read_to_string(seen).unwrap(), "750\n");
    assert!(target.ends_with(format!("pods/{}/volumes/example.org~git/v", pod.uid)));
    kubelet.must_tear_down(&pod, &volume);
    kubelet.must_tear_down(&pod, &volume);
    assert_eq!(kubelet.calls(), ["init", "mount", "unmount"], "without a directory there is no call");
}

#[test]
fn a_failure_is_an_event_and_its_arguments_are_logged_unless_it_exits_with_zero() {
    let failure = r#"echo '{"status":"Failure","message":"why \"so\""}'"#;
    for (status, logged) in [(0, false), (1, true)] {
        let scene = Scene::new(&format!("echo '{READY}'"), &format!("{failure}; exit {status}"), "");
        let kubelet = scene.tolerant().unwrap();
        let volume = volume().with_secret(&[("token", "canary")]);
        let failed = kubelet.set_up(&Pod::new("pod"), &volume).unwrap_err();
        assert_eq!(failed.reason, "why \"so\"");
        assert!(failed.event.ends_with("mount command failed, status: Failure, reason: why \"so\""), "{failed:?}");
        assert_eq!(kubelet.log().contains("Y2FuYXJ5"), logged, "{}", kubelet.log());
    }
}

#[test]
fn an_unsupported_command_is_not_called_again_until_a_probe() {
    let scene = Scene::saying(READY, r#"{"status":"Not supported"}"#, SUCCESS);
    let kubelet = scene.tolerant().unwrap();
    for pod in [Pod::new("one"), Pod::new("two")] {
        kubelet.set_up(&pod, &volume()).unwrap_err();
    }
    assert_eq!(kubelet.calls(), ["init", "mount"]);
    kubelet.restart();
    kubelet.set_up(&Pod::new("three"), &volume()).unwrap_err();
    assert_eq!(kubelet.calls(), ["init", "mount", "init", "mount"]);
    assert_fails_test("Not supported to mount", || drop(scene.strict().set_up(&Pod::new("pod"), &volume())));
}

#[test]
fn a_mount_with_a_malformed_answer_counts_as_mounted_on_the_retry() {
    if !require::root("to mount") {
        return;
    }
    namespace::private_mounts();
    let scene = Scene::new(&format!("echo '{READY}'"), "mount -t tmpfs none $2; echo oops", "echo oops");
    let kubelet = scene.tolerant().unwrap();
    let (pod, volume) = (Pod::new("pod"), volume());
    kubelet.set_up(&pod, &volume).unwrap_err();
    let target = kubelet.must_set_up(&pod, &volume);
    assert_eq!(kubelet.calls(), ["init", "mount"]);
    let failed = kubelet.tear_down(&pod, &volume).unwrap_err();
    assert!(failed.event.starts_with("UnmountVolume.TearDown failed for volume \"v\" : "), "{failed:?}");
    nix::mount::umount2(&target, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn an_unmount_that_leaves_the_mount_is_a_failure() {
    if !require::root("to mount") {
        return;
    }
    namespace::private_mounts();
    let mount = format!("mount -t tmpfs none $2; echo '{SUCCESS}'");
    let scene = Scene::new(&format!("echo '{READY}'"), &mount, &format!("echo '{SUCCESS}'"));
    let kubelet = scene.strict();
    let (pod, volume) = (Pod::new("pod"), volume());
    let target = kubelet.must_set_up(&pod, &volume);
    assert!(kubelet.tear_down(&pod, &volume).unwrap_err().reason.contains("busy"));
    nix::mount::umount2(&target, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn a_driver_that_breaks_the_contract_fails_its_test() {
    for init in [
        r#"echo '{"status":"Success"}'"#.to_owned(),
        r#"echo '{"status":"Success","capabilities":null}'"#.to_owned(),
        r#"echo '{"status":"Failure","message":"not now"}'"#.to_owned(),
        format!("echo '{READY}'; exit 1"),
        format!("echo warning >&2; echo '{READY}'"),
        format!("echo '{READY}{READY}'"),
        format!("echo '{READY}' | tr S s"),
        "true".to_owned(),
        "kill -9 $$".to_owned(),
    ] {
        let scene = Scene::new(&init, "", "");
        assert_fails_test(&init, || drop(scene.strict()));
    }
    // The kubelet itself would crash.
    let crashing = Scene::saying(r#"{"status":"Success","capabilities":null}"#, "", "");
    assert_fails_test("a crash of the kubelet", || drop(crashing.tolerant()));

    let walked = Scene::saying(r#"{"status":"Success","capabilities":{"attach":false}}"#, SUCCESS, SUCCESS);
    assert_fails_test("a change of all owners", || drop(walked.strict().set_up(&Pod::new("pod"), &volume())));
    walked.strict().set_up(&Pod::new("pod"), &volume().read_only()).unwrap();

    let littering = format!("touch $(dirname $0)/log; echo '{SUCCESS}'");
    let scene = Scene::new(&format!("echo '{READY}'"), &littering, "");
    assert_fails_test("a file beside the driver", || drop(scene.strict().set_up(&Pod::new("pod"), &volume())));
}

#[test]
fn a_killed_driver_gives_an_empty_answer() {
    let scene = Scene::new(&format!("echo '{READY}'"), "exec cat /dev/zero >/dev/null", "");
    let kubelet = scene.strict();
    let (pod, volume) = (Pod::new("pod"), volume());
    let running = kubelet.begin_set_up(&pod, &volume);
    running.signal(Signal::SIGCONT);
    assert_eq!(running.kill().reason, "unexpected end of JSON input");
    assert!(!kubelet.target(&pod, &volume).exists());
}
