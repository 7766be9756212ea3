//! Tests the promises of both drivers with each driver: the real program as root, under a fake kubelet, on its own
//! node.

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

mod access;
mod lfs;
mod lifecycle;
mod node_credentials;
pub(crate) mod secrets;
pub(crate) mod sharing;
mod signatures;
mod submodules;
mod together;

/// Size of a node's file system in bytes, mostly unused: large enough for blocks of 4 KiB and therefore long links.
const DISK: u64 = 1 << 30;

/// A node, and a server with a small repository.
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

    /// Returns a scene whose server needs credentials or misbehaves.
    pub(crate) fn serving(change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Option<Self> {
        Self::configured(&json!({}), change)
    }

    /// Returns a scene with additions to the driver's configuration.
    pub(crate) fn configured(
        configuration: &Value,
        change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder,
    ) -> Option<Self> {
        Some(Self::of(D::start(DISK, configuration)?, change))
    }

    /// Returns a scene on this node.
    pub(crate) fn of(node: D, change: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Self {
        let (repository, commit) = fixtures::small();
        let server = change(HttpServer::builder().serve(&repository)).start();
        Self { node, server, repository, commit }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// An inline volume with the tree at its root.
    pub(crate) fn inline(&self, name: &str) -> D::Volume {
        D::inline(name, &[("repository", &self.url()), ("directory", ".")])
    }

    /// A persistent volume with the tree at its root.
    pub(crate) fn persistent(&self, name: &str) -> D::Volume {
        D::persistent(name, &[("repository", &self.url()), ("directory", ".")])
    }

    /// Sets a volume up, which must succeed, and returns its target.
    pub(crate) fn set_up(&self, pod: &Pod, volume: &D::Volume) -> PathBuf {
        self.node.set_up(pod, volume).unwrap_or_else(|failed| panic!("{volume:?} was not set up: {failed:?}"));
        self.node.target(pod, volume)
    }

    /// Tears down a volume that is set up.
    pub(crate) fn tear_down(&self, pod: &Pod, volume: &D::Volume) {
        let target = self.node.target(pod, volume);
        assert!(target.exists(), "{} is not there", target.display());
        self.node.tear_down(pod, volume);
        assert!(!target.exists(), "{} is still there", target.display());
    }

    /// Sets a volume up for a new pod. Only the mount is checked: the tree may have been written to.
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

    /// Asserts that setting the volume up fails with `words`, and leaves nothing once the kubelet has given up.
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

/// Makes a test of each scene for each driver.
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
    access:
        s23_a_purged_commit_is_refused_to_a_pod_that_never_had_it
        s23_no_tenant_gets_a_byte_that_it_could_not_fetch_at_that_moment
        the_audit_log_names_who_got_what_and_what_proved_it;
    lifecycle:
        every_kind_of_volume_is_set_up_and_torn_down
        a_volume_shows_exactly_the_commits_tree
        common_options_work
        an_empty_value_means_the_same_as_a_missing_one
        a_mistake_in_a_url_or_a_key_is_named_with_what_to_write
        names_of_hexadecimal_digits_are_branches_and_tags
        a_private_repository_needs_the_right_secret
        files_of_a_writable_volume_belong_to_the_fs_group
        every_kind_of_volume_can_be_a_working_repository
        read_only_volumes_are_images_if_the_configuration_says_so
        devices_and_file_capabilities_can_be_made_in_a_writable_volume
        repeating_publish_and_unpublish_changes_nothing;
    secrets:
        secrets_do_not_leak_when_the_volume_works
        secrets_do_not_leak_when_the_server_fails
        secrets_do_not_leak_when_they_are_wrong
        ssh_secrets_do_not_leak
        a_credential_is_sent_only_to_a_server_that_asks_for_it;
    node_credentials:
        a_key_of_the_node_serves_pods_of_its_namespaces_and_nobody_else
        a_new_key_of_the_node_is_used_without_a_restart;
    lfs:
        a_volume_shows_the_content_of_its_lfs_pointers;
    submodules:
        a_volume_shows_its_submodules_as_git_checks_them_out
        s23_no_pod_gets_a_submodule_that_its_credential_could_not_fetch
        a_submodule_gets_the_nodes_credential_for_its_own_repository;
    sharing:
        pods_of_a_persistent_volume_share_one_copy_until_the_last_is_gone
        a_shared_copy_keeps_its_commit_for_pods_that_join_later
        a_read_only_pod_sees_the_commit_and_not_other_pods_writes;
    signatures:
        s20_a_commit_needs_its_signature_and_the_refusal_names_the_key
        s20_a_tree_in_the_store_is_refused_once_its_signer_is_no_longer_allowed
        s20_a_signed_tag_vouches_for_a_commit_that_is_asked_for_by_that_tag
        s20_pods_of_a_shared_copy_need_the_signature_too
        s20_an_openpgp_signature_counts_and_the_refusal_names_the_key;
    together:
        many_pods_at_once_make_one_fetch_and_one_snapshot
        pods_that_start_at_once_share_one_copy
        concurrent_publishes_mount_one_target_once
        a_clone_that_hangs_does_not_delay_other_volumes;
} }
