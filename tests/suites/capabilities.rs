//! The drivers drop all capabilities that they do not need, in every thread, and document the ones they keep.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi;
use gitrepo_tests::kubelet::flex;
use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::person::NOBODY;
use gitrepo_tests::process;
use gitrepo_tests::process::Rights;
use gitrepo_tests::program;
use gitrepo_tests::program::Program;
use gitrepo_tests::program::Running;
use gitrepo_tests::require;
use k8s_openapi::api::apps::v1::DaemonSet;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tempfile::TempDir;

/// Size in bytes of a file system for one small repository.
const DISK: u64 = 256 << 20;

/// The capabilities of a role, as a set in `/proc`.
fn set(role: Role) -> u64 {
    capabilities::needed(role).fold(0, |set, needed| set | 1 << needed.number)
}

fn exactly(set: u64) -> Rights {
    Rights { usable: [set; 2], bounding: set, inherited: [0; 2], no_new_privileges: true }
}

fn assert_all_threads_have(pid: u32, expected: &Rights) {
    for found in process::rights(pid) {
        assert_eq!(&found, expected, "process {pid}");
    }
}

/// Whether this process has more capabilities than any driver keeps; otherwise the test would prove nothing.
fn may_drop() -> bool {
    let own = process::rights(std::process::id());
    let needed = [Role::Node, Role::Controller, Role::Installer].into_iter().fold(0, |all, role| all | set(role));
    let has_more = own.iter().all(|rights| rights.bounding & needed == needed && rights.bounding & !needed != 0);
    require::feature(has_more, "a bounding set with more than the drivers keep")
}

/// Checks the driver and its children, monitors and workers, at least one of them a worker.
fn assert_confined(driver: u32) {
    assert_all_threads_have(driver, &exactly(set(Role::Node)));
    let mut workers = 0;
    for pid in process::with_descendants(driver).into_iter().filter(|pid| *pid != driver) {
        let rights = process::rights(pid);
        if rights[0].usable == [0; 2] {
            assert_all_threads_have(pid, &exactly(0));
            workers += 1;
        } else {
            // A monitor only starts and ends its worker.
            assert_all_threads_have(pid, &exactly(set(Role::Node)));
        }
    }
    assert!(workers > 0, "no worker of {driver} is without capabilities");
}

#[test]
fn the_csi_driver_keeps_what_it_needs_and_its_worker_nothing() {
    let Some(node) = csi::Node::new(DISK) else { return };
    if !may_drop() {
        return;
    }
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(Request::is_upload_pack);
    let volume = csi::Volume::inline("v", &[("repository", &server.url(&repository))]);
    let pod = Pod::new("pod");
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| node.kubelet().set_up(&pod, &volume));
        gate.wait_for(1);
        // More than one thread: the first is the event loop, a call to core runs in another.
        assert!(process::rights(node.driver_id()).len() > 1);
        assert_confined(node.driver_id());
        gate.open();
        publishing.join().unwrap().unwrap();
    });
    node.kubelet().must_tear_down(&pod, &volume);
    node.assert_nothing_published();
}

#[test]
fn the_flexvolume_driver_keeps_what_it_needs_and_its_worker_nothing() {
    let Some(node) = flex::Node::new(DISK) else { return };
    if !may_drop() {
        return;
    }
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(Request::is_upload_pack);
    let volume = flex::Volume::inline("v", &[("repository", &server.url(&repository))]);
    let pod = Pod::new("pod");
    let mounting = node.kubelet().begin_set_up(&pod, &volume);
    gate.wait_for(1);
    assert_confined(mounting.id());
    gate.open();
    mounting.wait().unwrap();
    node.kubelet().must_tear_down(&pod, &volume);
    node.assert_nothing_set_up();
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(120);
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_staying_installer_keeps_what_it_needs() {
    if !require::root("to have capabilities") || !may_drop() {
        return;
    }
    let home = TempDir::new().unwrap();
    let [plugins, pods] = ["plugins", "kubelet/pods"].map(|name| home.path().join(name));
    for directory in [&plugins, &pods] {
        fs::create_dir_all(directory).unwrap();
    }
    let program = Program::new(program::executable("gitrepo-flex-install"));
    let program = program.env("GITREPO_FLEX_KUBELET_DIR", home.path().join("kubelet"));
    let staying = program.spawn(["install", "--stay", "--plugin-dir", plugins.to_str().unwrap()]);
    let installed = plugins.join("piersharding~gitrepo/gitrepo");
    // The sweeping thread starts before the driver is installed.
    wait_until("the driver is installed", || installed.exists());
    assert_eq!(process::rights(staying.id()).len(), 2);
    assert_all_threads_have(staying.id(), &exactly(set(Role::Installer)));
    staying.signal(Signal::SIGTERM);
    staying.wait().assert_success();
}

/// Starts `program` as a controller that listens in `home`.
fn controller(home: &Path, program: &Program) -> Running {
    let socket = home.join("csi/csi.sock");
    let (endpoint, store) = (format!("--endpoint=unix://{}", socket.display()), home.join("store"));
    let store = format!("--store={}", store.display());
    let running = program.spawn(["--mode=controller", &endpoint, &store, "--http=127.0.0.1:0", "--log-format=text"]);
    wait_until("the controller listens", || socket.exists());
    running
}

#[test]
fn a_controller_of_root_keeps_only_what_confines_its_workers() {
    if !require::root("to have capabilities") || !may_drop() {
        return;
    }
    let home = TempDir::new().unwrap();
    let program = Program::new(program::executable("gitrepo-csi"));
    let running = controller(home.path(), &program);
    assert_all_threads_have(running.id(), &exactly(set(Role::Controller)));
    let files = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"];
    assert!(capabilities::needed(Role::Controller).all(|needed| !files.contains(&needed.name)));
    running.signal(Signal::SIGTERM);
    running.wait().assert_success();
}

#[test]
fn a_process_without_capabilities_drops_none_and_logs_nothing() {
    if !require::root("to become another user") {
        return;
    }
    let home = TempDir::new().unwrap();
    let user = Uid::from_raw(NOBODY);
    nix::unistd::chown(home.path(), Some(user), None).unwrap();
    let program = Program::new(program::executable("gitrepo-csi")).run_by(user);
    let running = controller(home.path(), &program);
    for rights in process::rights(running.id()) {
        assert_eq!((rights.usable, rights.inherited, rights.no_new_privileges), ([0; 2], [0; 2], true));
    }
    running.signal(Signal::SIGTERM);
    let outcome = running.wait().assert_success();
    let said = format!("{}{}", outcome.stdout, outcome.stderr).to_lowercase();
    assert!(!said.contains("capabilit") && !said.contains("warn"), "{said}");
}

/// The capabilities that the first container of a DaemonSet adds after dropping all, sorted.
fn added(manifest: &str) -> Vec<String> {
    let objects = manifests::parse(&fs::read_to_string(workspace().join(manifest)).unwrap()).unwrap();
    let pod = objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap();
    let capabilities = pod.containers[0].security_context.clone().unwrap().capabilities.unwrap();
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]), "{manifest}");
    let mut added = capabilities.add.unwrap();
    added.sort();
    added
}

#[test]
fn manifests_and_documents_list_what_the_drivers_keep() {
    for (role, manifest, document) in [
        (Role::Node, "deploy/csi/base/daemonset.yaml", "docs/install-csi.md"),
        (Role::Installer, "deploy/flexvolume/base/daemonset.yaml", "docs/install-flexvolume.md"),
    ] {
        let mut names: Vec<_> = capabilities::needed(role).map(|needed| needed.name.to_owned()).collect();
        names.sort();
        assert_eq!(added(manifest), names, "{manifest}");
        let text = fs::read_to_string(workspace().join(document)).unwrap();
        for needed in capabilities::needed(role) {
            let row = format!("| `{}` | {} |", needed.name, needed.reason);
            assert!(text.contains(&row), "{document} has no row {row}");
        }
        let rows = text.lines().filter(|line| line.starts_with("| `") && is_capability(line)).count();
        assert_eq!(rows, names.len(), "{document} lists other capabilities");
    }
}

/// Whether a row's first cell names a capability: the documents also have tables of variables.
fn is_capability(row: &str) -> bool {
    let known = ["SYS_", "NET_", "SET", "KILL", "CHOWN", "DAC_", "FOWNER", "FSETID", "MKNOD", "AUDIT_", "IPC_"];
    row.strip_prefix("| `").is_some_and(|name| known.iter().any(|beginning| name.starts_with(beginning)))
}
