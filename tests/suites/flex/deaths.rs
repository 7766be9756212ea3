//! The driver is killed, its worker dies, or its answer cannot be delivered.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use gitrepo_tests::http::Gate;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::SettingUp;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::process;
use gitrepo_tests::volumes::entries;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

use super::Scene;

/// Begins a mount and holds it in the middle of its fetch.
fn begin_fetch<'a>(scene: &'a Scene, pod: &Pod, volume: &Volume) -> (SettingUp<'a>, Gate) {
    let gate = scene.server.hold(Request::is_upload_pack);
    let mounting = scene.kubelet().begin_set_up(pod, volume);
    gate.wait_for(1);
    (mounting, gate)
}

fn workers(driver: u32) -> Vec<u32> {
    let mut workers = process::with_descendants(driver);
    workers.retain(|pid| *pid != driver);
    assert!(!workers.is_empty(), "the driver has a worker");
    workers
}

#[test]
fn the_next_call_takes_over_from_a_killed_driver() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v"));
    for _ in 0..3 {
        let (mounting, gate) = begin_fetch(&scene, &pod, &volume);
        let workers = workers(mounting.id());
        mounting.kill();
        workers.into_iter().for_each(process::wait_for_end);
        assert!(!scene.kubelet().target(&pod, &volume).exists(), "nothing is mounted or created");
        gate.open();
    }
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_waiting_mount_takes_over_when_the_fetcher_is_killed() {
    let Some(scene) = Scene::new() else { return };
    // Each process asks the remote itself, so the server sees when the joiner has arrived.
    scene.node.configure(&json!({"cache": {"accessTtl": "0s"}}));
    let asking = scene.server.hold(Request::is_info_refs);
    asking.open();
    let volume = scene.inline("v").read_only();
    let [first, second] = ["first", "second"].map(Pod::new);
    let (fetching, gate) = begin_fetch(&scene, &first, &volume);
    let asked = asking.arrived();
    let joining = scene.kubelet().begin_set_up(&second, &volume);
    asking.wait_for(asked + 1);
    fetching.kill();
    gate.wait_for(2);
    gate.open();
    joining.wait().unwrap();
    scene.assert_shown_on(&scene.kubelet().target(&second, &volume));
    scene.kubelet().must_set_up(&first, &volume);
    for pod in [first, second] {
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_signalled_driver_answers_one_failure_and_undoes_its_work() {
    let Some(scene) = Scene::new() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (pod, volume) = (Pod::new("pod"), scene.inline("v"));
        let (mounting, gate) = begin_fetch(&scene, &pod, &volume);
        let workers = workers(mounting.id());
        mounting.signal(signal);
        let failed = mounting.wait().unwrap_err();
        assert!(!failed.reason.is_empty(), "{signal}");
        assert!(!scene.kubelet().target(&pod, &volume).exists());
        workers.into_iter().for_each(process::wait_for_end);
        scene.node.assert_nothing_set_up();
        drop(gate);
    }
}

#[test]
fn a_worker_that_is_killed_fails_the_mount_and_nothing_else() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v"));
    let (mounting, gate) = begin_fetch(&scene, &pod, &volume);
    for worker in workers(mounting.id()) {
        let killed = nix::sys::signal::kill(Pid::from_raw(worker.cast_signed()), Signal::SIGKILL);
        // Killing a parent may already have ended the next one.
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
    }
    let failed = mounting.wait().unwrap_err();
    assert!(failed.reason.contains("worker"), "{failed:?}");
    gate.open();
    scene.node.assert_nothing_set_up();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

/// `mount` and `unmount` with standard streams that a shell has redirected or closed.
#[test]
fn an_answer_that_cannot_be_delivered_does_no_harm() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let target = scene.kubelet().target(&pod, &volume);
    let options = volume.json(&pod);
    for redirection in [">&-", ">/dev/full", "<&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"] {
        std::fs::create_dir_all(&target).unwrap();
        shell(&scene, redirection, &["mount", target.to_str().unwrap(), &options]);
        scene.assert_shown_on(&target);
        assert_eq!(entries(&target), [target.join("README.md")], "nothing is written to a file with its descriptor");
        shell(&scene, redirection, &["unmount", target.to_str().unwrap()]);
        assert_eq!(scene.node.mounts_on(&target), 0, "{redirection}");
        shell(&scene, redirection, &["init"]);
        shell(&scene, redirection, &["mount", target.to_str().unwrap(), "{}"]);
    }
    std::fs::create_dir_all(&target).unwrap();
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

fn shell(scene: &Scene, redirection: &str, arguments: &[&str]) {
    let driver = scene.kubelet().plugin().executable();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]).arg(driver).args(arguments);
    let output = command.env_clear().current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{redirection}: {arguments:?}: {}", output.status);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{redirection}: {stderr}");
    let is_open = !redirection.split(' ').any(|word| word.starts_with('>'));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), usize::from(is_open), "{redirection}");
}

/// Writing to a closed pipe raises SIGPIPE, unless it is ignored.
#[test]
fn a_closed_pipe_does_no_harm() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let target = scene.kubelet().target(&pod, &volume);
    std::fs::create_dir_all(&target).unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let plugin = scene.kubelet().plugin();
    let mut command = plugin.command(["mount", target.to_str().unwrap(), &volume.json(&pod)]);
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(reader);
    assert!(child.wait().unwrap().success());
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_log_that_cannot_be_written_does_no_harm() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let target = scene.kubelet().target(&pod, &volume);
    nix::mount::umount(Path::new("/var/log")).unwrap();
    let read_only = nix::mount::MsFlags::MS_RDONLY;
    nix::mount::mount(None::<&str>, "/var/log", Some("tmpfs"), read_only, None::<&str>).unwrap();
    scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
