//! An installer and volumes: it sweeps the volumes of removed pods, and does not remove a driver that still has
//! volumes.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::mount::Mounter;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::with;
use nix::sys::signal::Signal;
use serde_json::json;

use super::Plugins;
use super::wait_until;

/// A node with volumes of two frontends, and a configuration that names its store.
struct Populated {
    node: Node,
    configuration: PathBuf,
    kubelet: PathBuf,
    /// The driver's targets, of a pod that stays and of one that goes.
    targets: [PathBuf; 2],
}

impl Populated {
    fn new(home: &Path) -> Self {
        let home = home.canonicalize().unwrap();
        let url = "file:///app.git";
        let worker = InProcess::new(Arc::new(FakeRemote::of_one(&RepositoryUrl::parse(url).unwrap())));
        let mounter: Arc<dyn Mounter> = Arc::new(FakeMounter::new());
        let node = Node::new(&home, volumes::config(), Arc::new(worker), mounter);
        let publish = |origin, pod: &str| {
            let target = node.target(pod);
            let request = volumes::read_only(url, &target);
            node.publish(&with(request, |request| request.origin = origin)).unwrap();
            target
        };
        let targets = ["stays", "goes"].map(|pod| publish(volumes::FLEX, pod));
        publish(volumes::CSI, "other");
        let configuration = home.join("config.json");
        let text = json!({"store": node.store(), "hostTargetRoots": []}).to_string();
        fs::write(&configuration, text).unwrap();
        Self { node, configuration, kubelet: home, targets }
    }

    fn published(&self) -> Vec<PathBuf> {
        let mut targets: Vec<_> =
            self.node.volumes.store().records().unwrap().into_iter().map(|record| record.target).collect();
        targets.sort();
        targets
    }
}

#[test]
fn a_staying_installer_sweeps_only_the_drivers_volumes_of_removed_pods() {
    let plugins = Plugins::new();
    let node = Populated::new(plugins.home.path());
    let [stays, goes] = &node.targets;
    let other = node.node.target("other");
    // Another frontend's volume, which the installer must not sweep.
    fs::remove_dir(&other).unwrap();
    let options = ["--stay", "--sweep-interval=10ms", "--interval=1s", "--config"].map(str::to_owned);
    let [configuration, kubelet] = [&node.configuration, &node.kubelet].map(|path| path.to_str().unwrap().to_owned());
    let options = [&options[..], &[configuration, "--kubelet-dir".to_owned(), kubelet]].concat();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let staying = plugins.spawn("install", &options);
    wait_until("installed", || plugins.is_healthy(&options[3..5]));
    fs::remove_dir(goes).unwrap();
    wait_until("forgotten", || !node.published().contains(goes));
    assert_eq!(node.published(), [other, stays.clone()], "the others stay, though the installer sees no mounts");
    staying.signal(Signal::SIGTERM);
    staying.wait().assert_success();
}

#[test]
fn a_driver_with_volumes_is_not_uninstalled() {
    let plugins = Plugins::new();
    let node = Populated::new(plugins.home.path());
    plugins.install();
    let config = ["--config", node.configuration.to_str().unwrap()];
    let refused = plugins.run("uninstall", &config).assert_code(1);
    assert!(refused.stderr.contains(node.targets[1].to_str().unwrap()), "{}", refused.stderr);
    assert!(refused.stderr.contains("2 volumes"), "{}", refused.stderr);
    assert!(plugins.is_healthy(&[]));
    // The driver's installed configuration names the store too.
    plugins.run("install", &config).assert_success();
    let refused = plugins.run("uninstall", &[]).assert_code(1);
    assert!(refused.stderr.contains("2 volumes"), "{}", refused.stderr);
    plugins.run("uninstall", &[&config[..], &["--force"]].concat()).assert_success();
    assert!(!plugins.directory().exists());
}

/// The uninstaller may not see the store, such as that of a `hostTarget` from within a container.
#[test]
fn a_driver_with_volumes_that_only_the_kubelet_knows_is_not_uninstalled() {
    let plugins = Plugins::new();
    plugins.install();
    let kubelet = plugins.home.path().join("kubelet");
    let pod = kubelet.join("pods/0b710895-6481-4e79-99ad-481cc0a9df85/volumes");
    let [ours, other] = ["piersharding~gitrepo/data", "example.com~git/data"].map(|volume| pod.join(volume));
    for volume in [&ours, &other] {
        fs::create_dir_all(volume).unwrap();
    }
    // Neither a pod without volumes of the driver nor a file is one.
    fs::create_dir_all(kubelet.join("pods/1/volumes/piersharding~gitrepo")).unwrap();
    fs::write(kubelet.join("pods/file"), "").unwrap();
    let options = ["--kubelet-dir", kubelet.to_str().unwrap()];
    let refused = plugins.run("uninstall", &options).assert_code(1);
    assert!(
        refused.stderr.contains("1 volumes") && refused.stderr.contains(ours.to_str().unwrap()),
        "{}",
        refused.stderr
    );
    assert!(plugins.is_healthy(&[]));
    fs::remove_dir(&ours).unwrap();
    plugins.run("uninstall", &options).assert_success();
    assert!(!plugins.directory().exists());
}
