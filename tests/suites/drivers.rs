//! What both drivers promise alike, each under its kubelet: the real program as root, on a machine of the test's own.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use serde_json::Value;
use serde_json::json;

mod lifecycle;
pub(crate) mod secrets;
pub(crate) mod sharing;
mod together;

/// Bytes of a machine's file system, of which few are ever written: enough for blocks of 4 KiB, and so for long links.
const DISK: u64 = 1 << 30;

/// A machine, and a server with a small repository.
pub(crate) struct Scene<D> {
    pub(crate) node: D,
    pub(crate) server: HttpServer,
    pub(crate) repository: Repository,
    pub(crate) commit: String,
}

impl<D: Driver> Scene<D> {
    pub(crate) fn new() -> Option<Self> {
        Self::serving(|server| server)
    }

    /// With a server that is not open to everybody, or does not behave.
    pub(crate) fn serving(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        Self::configured(&json!({}), change)
    }

    /// The same with more in the driver's configuration.
    pub(crate) fn configured(
        configuration: &Value,
        change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder,
    ) -> Option<Self> {
        Some(Self::of(D::start(DISK, configuration)?, change))
    }

    /// On this machine.
    pub(crate) fn of(node: D, change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Self {
        let (repository, commit) = fixtures::small();
        let server = change(HttpServer::builder().serve(&repository)).start();
        Self { node, server, repository, commit }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// A volume of the pod spec, whose tree is its root.
    pub(crate) fn inline(&self, name: &str) -> D::Volume {
        D::inline(name, &[("repository", &self.url()), ("directory", ".")])
    }

    /// A volume behind a claim, likewise.
    pub(crate) fn persistent(&self, name: &str) -> D::Volume {
        D::persistent(name, &[("repository", &self.url()), ("directory", ".")])
    }

    /// Sets a volume up, which must succeed, and returns where it is.
    pub(crate) fn set_up(&self, pod: &Pod, volume: &D::Volume) -> PathBuf {
        self.node.set_up(pod, volume).unwrap_or_else(|failed| panic!("{volume:?} was not set up: {failed:?}"));
        self.node.target(pod, volume)
    }

    /// Tears a volume down that is set up.
    pub(crate) fn tear_down(&self, pod: &Pod, volume: &D::Volume) {
        let target = self.node.target(pod, volume);
        assert!(target.exists(), "{} is not there", target.display());
        self.node.tear_down(pod, volume);
        assert!(!target.exists(), "{} is still there", target.display());
    }

    /// Sets a volume up for a new pod. A writable one may be written to, so only its being there is checked.
    pub(crate) fn start_pod(&self, name: &str, volume: &D::Volume) -> (Pod, PathBuf) {
        let pod = Pod::new(name);
        let target = self.set_up(&pod, volume);
        assert_eq!(self.node.mounts_on(&target), 1);
        (pod, target)
    }

    pub(crate) fn assert_shown_on(&self, target: &Path) {
        assert_eq!(self.node.mounts_on(target), 1);
        assert_same_tree(&self.repository, &self.commit, ".", target);
    }

    /// Setting the volume up fails, says `words`, and leaves nothing once the kubelet has given it up.
    pub(crate) fn assert_not_set_up(&self, volume: &D::Volume, words: &[&str]) -> D::Failed {
        let pod = Pod::new("failing");
        let failed = self.node.set_up(&pod, volume).expect_err("the volume must not be set up");
        let message = failed.to_string();
        for words in words {
            assert!(message.contains(words), "{words:?} is not in {message:?}");
        }
        self.node.give_up(&pod, volume);
        assert!(!self.node.target(&pod, volume).exists(), "the directory stays: {failed:?}");
        self.node.assert_nothing_set_up();
        failed
    }
}

pub(crate) fn read(file: PathBuf) -> String {
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Makes each scene a test of either driver.
macro_rules! over {
    ($($driver:ident)*; $scenes:tt) => { $(over!(@ $driver $scenes);)* };
    (@ $driver:ident { $($module:ident: $($scene:ident)*;)* }) => {
        mod $driver {
            use gitrepo_tests::kubelet::$driver::Node;
            $($(#[test]
            fn $scene() {
                super::$module::$scene::<Node>();
            })*)*
        }
    };
}

over! { csi flex; {
    lifecycle:
        every_flavour_of_volume_is_set_up_and_torn_down
        a_volume_shows_exactly_the_commits_tree
        options_of_the_vocabulary_work
        a_secret_opens_a_private_repository_and_nobody_else_gets_it
        files_of_a_writable_volume_belong_to_the_fs_group
        repeating_publish_and_unpublish_changes_nothing;
    secrets:
        secrets_are_nowhere_when_all_goes_well
        secrets_are_nowhere_when_the_server_fails
        secrets_are_nowhere_when_they_are_wrong
        ssh_secrets_are_nowhere
        only_a_server_that_asks_for_it_sees_a_credential;
    sharing:
        pods_of_a_persistent_volume_write_to_one_copy_that_goes_with_the_last
        a_shared_copy_keeps_its_commit_for_those_who_join_it
        a_pod_that_only_reads_sees_the_commit_and_not_what_others_write;
    together:
        many_pods_at_once_make_one_fetch_and_one_snapshot
        pods_that_start_at_once_share_one_copy
        one_target_is_mounted_once_however_many_ask
        a_clone_that_hangs_holds_up_no_other_volume;
} }
