//! Publish, unpublish, list: the same promises over a fake mounter with a worker in a thread, and as root over real
//! mounts, confined workers and a freshly made file system.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::Config;
use gitrepo_core::remote::Git;
use gitrepo_core::testing::FailingMounter;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::Verb;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::InProcess;
use gitrepo_core::worker::Worker;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::program;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use tempfile::TempDir;

mod abandoned;
mod contract;
mod copies;
mod damage;
mod failures;
mod kernel;
mod shared;
mod targets;

/// A node, and a server with a repository of two commits.
struct Bench {
    node: Node,
    worker: Arc<dyn Worker>,
    mounter: Arc<dyn Mounter>,
    home: PathBuf,
    server: HttpServer,
    repository: Repository,
    first: String,
    commit: String,
    _place: Place,
}

enum Place {
    Directory { _directory: TempDir },
    FileSystem { _file_system: LoopFs },
}

impl Bench {
    /// Threads for workers, and mounts that are only remembered.
    fn fake() -> Self {
        let directory = TempDir::new().unwrap();
        let home = directory.path().canonicalize().unwrap();
        let worker = InProcess::new(Arc::new(Git::default()));
        Self::new(home, Arc::new(worker), Arc::new(FakeMounter::new()), Place::Directory { _directory: directory })
    }

    /// As on a node; `None` without root.
    fn real() -> Option<Self> {
        if !require::root("to mount") || !require::tool("mkfs.ext4") {
            return None;
        }
        let file_system = LoopFs::new(1 << 30);
        let home = file_system.path().canonicalize().unwrap();
        let worker = Confined::new(&volumes::config().worker).with_program(program::executable("gitrepo-cli"));
        let mounter = LinuxMounter::new(home.join("store/mounting"));
        Some(Self::new(home, Arc::new(worker), Arc::new(mounter), Place::FileSystem { _file_system: file_system }))
    }

    fn new(home: PathBuf, worker: Arc<dyn Worker>, mounter: Arc<dyn Mounter>, place: Place) -> Self {
        let repository = Repository::new("app");
        let first = repository.commit("main", &Files::new().file("README.md", "# First\n").file("a/b/c", "deep\n"));
        let commit =
            repository.commit("main", &Files::new().file("README.md", "# Second\n").executable("run", "#!/bin/sh\n"));
        let server = HttpServer::start(&repository);
        let node = Node::new(&home, volumes::config(), Arc::clone(&worker), Arc::clone(&mounter));
        Self { node, worker, mounter, home, server, repository, first, commit, _place: place }
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// The same node, as another process with this configuration would see it.
    fn configured(&self, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = volumes::config();
        change(&mut config);
        Node::new(&self.home, config, Arc::clone(&self.worker), Arc::clone(&self.mounter))
    }

    /// The same node, on which the `nth` call of `verb` fails.
    fn failing(&self, verb: Verb, nth: usize) -> Node {
        let mounter = FailingMounter::new(Arc::clone(&self.mounter), verb, nth, libc::EIO);
        Node::new(&self.home, volumes::config(), Arc::clone(&self.worker), Arc::new(mounter))
    }

    /// Fails unless `target` shows `commit` in one mount.
    fn assert_shows(&self, target: &Path, commit: &str) {
        assert_eq!(self.node.mounts_on(target), 1, "mounts on {}", target.display());
        gitrepo_tests::tree::assert_same_tree(&self.repository, commit, ".", &self.node.shown(target));
    }
}

/// Runs functions that take a [`Bench`] as tests over each bench.
macro_rules! over {
    ($($bench:ident: $make:expr;)*; $promises:tt) => { $(over!(@ $bench $make; $promises);)* };
    (@ $bench:ident $make:expr; { $($module:ident: $($promise:ident)*;)* }) => {
        mod $bench {
            use super::*;
            $($(#[test]
            fn $promise() {
                let bench: Option<Bench> = $make;
                if let Some(bench) = bench {
                    $module::$promise(&bench);
                }
            })*)*
        }
    };
}

over! {
    fake: Some(Bench::fake());
    real: Bench::real();
    ; {
        contract:
            a_volume_shows_exactly_the_commits_tree
            publishing_ten_times_is_one_mount
            publish_and_unpublish_may_alternate
            other_content_on_a_taken_target_is_refused
            one_volume_may_be_on_many_targets
            a_subdirectory_appears_where_asked
            what_was_published_stays_when_the_branch_moves
            a_reboot_brings_the_recorded_commit_back_without_the_remote
            after_a_reboot_another_credential_has_to_prove_itself
            the_list_says_what_is_mounted
            unpublishing_what_is_not_published_is_no_error;
        targets:
            a_target_directory_that_was_there_stays
            a_target_directory_that_was_made_goes
            a_target_that_cannot_be_used_is_refused_and_nothing_made
            what_somebody_else_mounted_after_a_reboot_stays
            a_volume_that_somebody_else_covers_is_not_forgotten
            a_mount_of_somebody_else_is_neither_covered_nor_taken_off;
        failures:
            a_publish_that_fails_for_good_leaves_nothing
            a_publish_whose_mount_fails_leaves_nothing
            a_failure_that_could_not_be_undone_is_not_final
            an_unpublish_that_fails_may_be_repeated
            a_publish_that_was_given_up_leaves_nothing
            what_is_unpublished_while_it_is_fetched_does_not_appear
            a_failed_republish_keeps_what_the_volume_is;
        damage:
            a_torn_record_breaks_neither_publish_nor_unpublish_nor_list
            a_snapshot_deleted_behind_our_back_is_made_anew
            a_snapshot_that_cannot_be_made_anew_is_reported_and_unpublished
            a_snapshot_that_somebody_changed_is_replaced_and_who_has_it_keeps_it
            a_changed_snapshot_is_unpublished_like_any_other
            a_copy_that_is_mounted_outlives_its_record
            a_copy_whose_record_was_lost_is_never_shown_again;
        copies:
            writes_to_a_copy_are_seen_by_nobody_else
            a_copy_goes_with_its_volume
            writes_to_a_copy_survive_a_reboot
            a_copy_is_private_unless_it_is_to_be_shared
            a_copy_is_for_the_group_asked_for
            a_copy_belongs_to_the_user_asked_for;
        shared:
            targets_of_a_volume_share_what_they_write_until_the_last_is_gone
            other_volumes_and_private_copies_have_nothing_of_a_shared_one
            a_reboot_brings_a_shared_copy_back_with_what_was_written
            other_content_than_a_shared_copy_has_is_refused_until_that_is_gone
            a_shared_copy_is_refused_to_who_could_not_fetch_it
            a_target_that_cannot_join_leaves_the_shared_copy_to_the_others
            a_shared_copy_that_no_target_speaks_of_is_never_shown_again
            a_shared_copy_that_is_mounted_outlives_a_lost_record
            a_shared_copy_that_was_lost_is_made_anew_of_the_same_commit
            a_shared_copy_belongs_to_the_user_and_group_asked_for;
        abandoned:
            a_volume_whose_target_is_gone_is_unpublished
            the_last_target_that_is_gone_takes_the_shared_copy_with_it
            only_volumes_of_that_origin_and_place_are_abandoned
            what_cannot_be_seen_is_not_abandoned
            a_persons_volume_is_abandoned_when_its_mount_is_lost_and_nothing_was_written;
    }
}
