//! The FlexVolume driver under a kubelet: every call answered with exactly one JSON object and exit status 0.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Kubelet;
use gitrepo_tests::kubelet::flex::Node;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;

mod calls;
mod deaths;
mod failures;
mod host_target;
mod lifecycle;
mod odd_input;
mod reboots;
mod secrets;
mod sharing;
mod together;

/// Bytes of a machine's file system, of which few are ever written.
const DISK: u64 = 128 << 20;

/// A machine, and a server with a small repository.
struct Scene {
    node: Node,
    server: HttpServer,
    repository: Repository,
    commit: String,
}

impl Scene {
    fn new() -> Option<Self> {
        Self::serving(|server| server)
    }

    /// With a disk of `bytes`. A small one has blocks of 1 KiB, which long links do not fit into.
    fn with_disk(bytes: u64) -> Option<Self> {
        Self::of(bytes, |server| server)
    }

    /// With a server that is not open to everybody, or does not behave.
    fn serving(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        Self::of(DISK, change)
    }

    fn of(bytes: u64, change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        let node = Node::new(bytes)?;
        let (repository, commit) = fixtures::small();
        let server = change(HttpServer::builder().serve(&repository)).start();
        Some(Self { node, server, repository, commit })
    }

    fn kubelet(&self) -> &Kubelet {
        self.node.kubelet()
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// A volume of the pod spec.
    fn inline(&self, name: &str) -> Volume {
        Volume::inline(name, &[("repository", &self.url())])
    }

    /// A volume behind a claim.
    fn persistent(&self, name: &str) -> Volume {
        Volume::persistent(name, &[("repository", &self.url())])
    }

    /// Sets a volume up for a new pod. A writable one may be written to, so only its being there is checked.
    fn start_pod(&self, name: &str, volume: &Volume) -> (Pod, PathBuf) {
        let pod = Pod::new(name);
        let target = self.kubelet().must_set_up(&pod, volume);
        assert_eq!(self.node.mounts_on(&target), 1);
        (pod, target)
    }

    fn assert_shown_on(&self, target: &Path) {
        assert_eq!(self.node.mounts_on(target), 1);
        assert_same_tree(&self.repository, &self.commit, ".", target);
    }

    /// Setting the volume up fails, says `words`, and leaves nothing.
    fn assert_fails(&self, volume: &Volume, words: &[&str]) -> String {
        let pod = Pod::new("failing");
        let failed = self.kubelet().set_up(&pod, volume).expect_err("the volume must not be set up");
        for words in words {
            assert!(failed.reason.contains(words), "{words:?} is not in {:?}", failed.reason);
        }
        assert!(!self.kubelet().target(&pod, volume).exists(), "the directory stays: {failed:?}");
        self.node.assert_nothing_set_up();
        failed.reason
    }
}

fn read(file: PathBuf) -> String {
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
