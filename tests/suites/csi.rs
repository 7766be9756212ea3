//! The CSI driver under a kubelet: the real program as root, on a machine of the test's own.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Failed;
use gitrepo_tests::kubelet::csi::Kubelet;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::TornDown;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

mod errors;
mod lifecycle;
mod restarts;
mod secrets;
mod service;
mod sharing;
mod slow;
mod soak;
mod stats;
mod stopping;
mod together;

/// Bytes of a machine's file system, of which few are ever written: enough for blocks of 4 KiB, and so for long links.
const DISK: u64 = 1 << 30;

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

    /// With a server that is not open to everybody, or does not behave.
    fn serving(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        Self::configured(&json!({}), change)
    }

    fn configured(fields: &Value, change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        let node = Node::configured(DISK, fields)?;
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

    /// A volume of the pod spec, whose tree is its root.
    fn inline(&self, name: &str) -> Volume {
        Volume::inline(name, &[("repository", &self.url()), ("directory", ".")])
    }

    /// A volume behind a claim, likewise.
    fn persistent(&self, name: &str) -> Volume {
        let handle = format!("handle of {name}/../x");
        Volume::persistent(name, &handle, &[("repository", &self.url()), ("directory", ".")])
    }

    /// Sets a volume up for a new pod.
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

    /// Setting the volume up fails for good with `code`, says `words`, and leaves nothing, though the kubelet never asks
    /// for it to be undone.
    fn assert_fails(&self, volume: &Volume, code: Code, words: &[&str]) -> Failed {
        let pod = Pod::new("failing");
        let failed = self.kubelet().set_up(&pod, volume).expect_err("the volume must not be set up");
        assert_eq!((failed.code, failed.is_final()), (Some(code), true), "{failed:?}");
        assert_says(&failed, words);
        assert_eq!(self.kubelet().tear_down(&pod, volume), Ok(TornDown::NothingKnown));
        self.node.assert_nothing_published();
        failed
    }

    /// Setting the volume up fails with `code` for the time being, says `words`, and the unpublish that follows leaves
    /// nothing.
    fn assert_fails_for_now(&self, volume: &Volume, code: Code, words: &[&str]) -> Failed {
        let pod = Pod::new("failing");
        let failed = self.kubelet().set_up(&pod, volume).expect_err("the volume must not be set up");
        assert_eq!((failed.code, failed.is_final()), (Some(code), false), "{failed:?}");
        assert_says(&failed, words);
        self.kubelet().must_tear_down(&pod, volume);
        self.node.assert_nothing_published();
        failed
    }
}

fn assert_says(failed: &Failed, words: &[&str]) {
    for words in words {
        assert!(failed.message.contains(words), "{words:?} is not in {:?}", failed.message);
    }
}

fn read(file: PathBuf) -> String {
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
