//! What an installer does about volumes: it sweeps those of pods that are gone, and does not remove a driver that has
//! some.

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

/// A node with volumes of two pods by each of two frontends, and the configuration that names its store.
struct Populated {
    node: Node,
    configuration: PathBuf,
    kubelet: PathBuf,
    /// The driver's, of a pod that is there and of one that will go.
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
fn who_stays_sweeps_the_volumes_of_pods_that_are_gone_and_no_others() {
    let plugins = Plugins::new();
    let node = Populated::new(plugins.home.path());
    let [stays, goes] = &node.targets;
    let other = node.node.target("other");
    // Not by the driver, so it is somebody else's to tell that it is gone.
    fs::remove_dir(&other).unwrap();
    let options = ["--stay", "--sweep-interval=10ms", "--interval=1s", "--config"].map(str::to_owned);
    let [configuration, kubelet] = [&node.configuration, &node.kubelet].map(|path| path.to_str().unwrap().to_owned());
    let options = [&options[..], &[configuration, "--kubelet-dir".to_owned(), kubelet]].concat();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let staying = plugins.spawn("install", &options);
    wait_until("installed", || plugins.is_healthy(&options[3..5]));
    fs::remove_dir(goes).unwrap();
    wait_until("forgotten", || !node.published().contains(goes));
    assert_eq!(node.published(), [other, stays.clone()], "neither is mounted in the eyes of who sweeps");
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
    // Told by the driver's own configuration as well.
    plugins.run("install", &config).assert_success();
    let refused = plugins.run("uninstall", &[]).assert_code(1);
    assert!(refused.stderr.contains("2 volumes"), "{}", refused.stderr);
    plugins.run("uninstall", &[&config[..], &["--force"]].concat()).assert_success();
    assert!(!plugins.directory().exists());
}

/// The store is not seen by who uninstalls, as that of a `hostTarget` in a container.
#[test]
fn a_driver_whose_volumes_only_the_kubelet_knows_is_not_uninstalled() {
    let plugins = Plugins::new();
    plugins.install();
    let kubelet = plugins.home.path().join("kubelet");
    let pod = kubelet.join("pods/0b710895-6481-4e79-99ad-481cc0a9df85/volumes");
    let [ours, other] = ["piersharding~gitrepo/data", "example.com~git/data"].map(|volume| pod.join(volume));
    for volume in [&ours, &other] {
        fs::create_dir_all(volume).unwrap();
    }
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
