//! Publish, unpublish and list: the same promises with a fake mounter and workers in threads, and as root with real
//! mounts, confined workers and a fresh file system.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::error::chain;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::Backing;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::SnapshotChoice;
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
use gitrepo_tests::tmpfs::Tmpfs;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use tempfile::TempDir;

mod abandoned;
mod base_damage;
mod checkout;
mod committing;
mod contract;
mod copies;
mod damage;
mod failures;
mod formats;
mod git_dir;
mod image_damage;
mod images;
mod kernel;
mod labels;
mod layers;
mod links;
mod moving;
mod older;
mod replaced;
mod shared;
mod targets;
mod views;

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
    /// The format of the snapshots of read-only volumes.
    format: SnapshotChoice,
    _place: Place,
}

enum Place {
    Directory(TempDir),
    Disk(LoopFs),
    Memory(Tmpfs),
}

impl Place {
    fn disk() -> Option<Self> {
        LoopFs::if_possible(1 << 30).map(Self::Disk)
    }

    fn memory() -> Option<Self> {
        Tmpfs::if_possible().map(Self::Memory)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Disk(file_system) => file_system.path(),
            Self::Memory(file_system) => file_system.path(),
        }
    }
}

impl Bench {
    /// Creates a bench with workers in threads and fake mounts.
    fn fake() -> Self {
        let place = Place::Directory(TempDir::new().unwrap());
        let home = place.path().canonicalize().unwrap();
        let worker = InProcess::new(Arc::new(Git::default()));
        Self::new(home, Arc::new(worker), Arc::new(FakeMounter::new()), SnapshotChoice::Directory, place)
    }

    /// Creates a bench that works like a real node; `None` without root.
    fn real() -> Option<Self> {
        Some(Self::real_on(SnapshotChoice::Directory, Place::disk()?))
    }

    /// The same with images as snapshots; `None` also on a machine that cannot mount them.
    fn images() -> Option<Self> {
        Self::real_on(SnapshotChoice::Image, Place::disk()?).with_images()
    }

    /// The same on a file system whose files the kernel mounts only through loop devices.
    fn images_on_loop_devices() -> Option<Self> {
        let bench = Self::real_on(SnapshotChoice::Image, Place::memory()?).with_images()?;
        let backing = LinuxMounter::new(bench.home.join("mounting")).image_support(&bench.home).unwrap().backing;
        require::feature(backing == Backing::LoopDevices, "a tmpfs without images as files").then_some(bench)
    }

    /// The same on a file system with fs-verity.
    fn images_with_verity() -> Option<Self> {
        Self::real_on(SnapshotChoice::Image, Place::Disk(LoopFs::with_verity(1 << 30)?)).with_images()
    }

    fn with_images(self) -> Option<Self> {
        let supported = self.mounter.check_images(&self.home);
        let what = supported.as_ref().err().map(|error| chain(error)).unwrap_or_default();
        require::feature(supported.is_ok(), &format!("images of 512-byte blocks: {what}")).then_some(self)
    }

    fn real_on(format: SnapshotChoice, place: Place) -> Self {
        let home = place.path().canonicalize().unwrap();
        let worker = Confined::new(&volumes::config().worker).with_program(program::executable("gitrepo-cli"));
        let mounter = LinuxMounter::new(home.join("store/mounting"));
        Self::new(home, Arc::new(worker), Arc::new(mounter), format, place)
    }

    fn new(
        home: PathBuf,
        worker: Arc<dyn Worker>,
        mounter: Arc<dyn Mounter>,
        format: SnapshotChoice,
        place: Place,
    ) -> Self {
        let repository = Repository::new("app");
        let first = repository.commit("main", &Files::new().file("README.md", "# First\n").file("a/b/c", "deep\n"));
        let commit =
            repository.commit("main", &Files::new().file("README.md", "# Second\n").executable("run", "#!/bin/sh\n"));
        let server = HttpServer::start(&repository);
        let node = Node::new(&home, config(format), Arc::clone(&worker), Arc::clone(&mounter));
        Self { node, worker, mounter, home, server, repository, first, commit, format, _place: place }
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// Returns the same node with another configuration, as another process would open it.
    fn configured(&self, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = config(self.format);
        change(&mut config);
        Node::new(&self.home, config, Arc::clone(&self.worker), Arc::clone(&self.mounter))
    }

    /// Returns the same node, but the `nth` call of `verb` fails.
    fn failing(&self, verb: Verb, nth: usize) -> Node {
        let mounter = FailingMounter::new(Arc::clone(&self.mounter), verb, nth, libc::EIO);
        Node::new(&self.home, config(self.format), Arc::clone(&self.worker), Arc::new(mounter))
    }

    /// Asserts that `target` shows `commit` in one mount.
    fn assert_shows(&self, target: &Path, commit: &str) {
        assert_eq!(self.node.mounts_on(target), 1, "mounts on {}", target.display());
        gitrepo_tests::tree::assert_same_tree(&self.repository, commit, ".", &self.node.shown(target));
    }
}

fn config(snapshot_format: SnapshotChoice) -> Config {
    let mut config = volumes::config();
    config.snapshot_format = snapshot_format;
    config
}

/// Makes tests of functions that take a [`Bench`], for each bench.
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

/// Runs the promises of every format, and more.
macro_rules! over_every_format {
    ({ $($bench:ident: $make:expr;)* } { $($more:tt)* }) => {
        over! {
            $($bench: $make;)*
            ; {
                contract:
                    a_volume_shows_exactly_the_commits_tree
                    publishing_ten_times_makes_one_mount
                    publish_and_unpublish_may_alternate
                    different_content_for_a_published_target_is_refused
                    one_volume_may_be_on_many_targets
                    a_subdirectory_appears_at_the_requested_directory
                    a_published_volume_stays_when_the_branch_moves
                    after_a_reboot_the_recorded_commit_is_published_without_the_remote
                    after_a_reboot_another_credential_needs_its_own_proof
                    the_list_shows_the_state_of_mounts
                    unpublishing_an_unpublished_volume_succeeds;
                moving:
                    new_volumes_follow_a_ref_wherever_it_moves
                    a_depth_stays_what_it_is_while_its_branch_moves;
                targets:
                    an_existing_target_directory_stays
                    a_created_target_directory_is_removed
                    an_unusable_target_is_refused_and_nothing_is_created
                    a_foreign_mount_made_after_a_reboot_stays
                    a_volume_covered_by_a_foreign_mount_is_not_forgotten
                    a_foreign_mount_is_neither_covered_nor_unmounted;
                failures:
                    a_final_failure_leaves_nothing_behind
                    a_publish_whose_mount_fails_leaves_nothing_behind
                    a_failure_that_could_not_be_undone_is_not_final
                    a_failed_unpublish_may_be_repeated
                    a_cancelled_publish_leaves_nothing_behind
                    a_volume_that_is_unpublished_during_its_fetch_does_not_appear
                    a_failed_republish_keeps_the_volumes_record_and_data;
                damage:
                    a_torn_record_breaks_neither_publish_nor_unpublish_nor_list
                    a_deleted_snapshot_is_made_again
                    a_deleted_snapshot_that_cannot_be_made_again_is_reported_and_unpublished;
                copies:
                    writes_to_a_copy_are_not_visible_elsewhere
                    writes_to_a_copy_survive_a_reboot
                    a_copy_belongs_to_the_requested_group;
                git_dir:
                    each_depth_is_that_of_gits_own_clone_whatever_came_before
                    a_branch_is_checked_out_and_anything_else_is_detached
                    odd_names_of_branches_are_names_and_nothing_else
                    every_fixture_is_clean_with_its_repository
                    without_a_repository_nothing_is_there_and_depths_share_a_tree
                    a_snapshot_that_is_made_again_has_the_same_branch;
                checkout:
                    files_are_converted_as_git_checkout_does_if_asked
                    converted_files_are_clean_beside_a_git_directory
                    a_changed_file_is_committed_as_git_converts_it_back
                    what_an_option_refuses_stays_for_volumes_without_it
                    options_that_do_not_go_together_are_refused_before_anything_is_asked;
                links:
                    links_out_of_the_volume_are_refused_in_every_form;
                views:
                    a_directory_takes_no_owners;
                shared:
                    targets_of_a_volume_share_a_copy_until_the_last_is_gone
                    a_lost_shared_copy_is_made_again_from_the_same_commit;
                abandoned:
                    a_volume_whose_target_is_gone_is_unpublished
                    only_volumes_of_the_given_origin_and_directory_are_abandoned
                    a_users_read_only_volume_is_abandoned_when_its_mount_is_lost;
                $($more)*
            }
        }
    };
}

over_every_format! {
    {
        fake: Some(Bench::fake());
        real: Bench::real();
    }
    {
        git_dir:
            the_owner_commits_fetches_and_collects_garbage;
        committing:
            gits_own_commands_work_in_a_writable_volume
            submodules_are_initialised_by_git_itself;
        damage:
            a_changed_snapshot_is_replaced_and_its_mounts_keep_it
            a_changed_snapshot_is_unpublished_like_any_other
            a_mounted_copy_outlives_its_record
            a_copy_without_a_record_is_never_shown_again;
        copies:
            a_copy_is_removed_with_its_volume
            a_copy_is_private_by_default
            a_copy_belongs_to_the_requested_user;
        shared:
            other_volumes_and_private_copies_do_not_show_a_shared_copy
            a_shared_copy_and_its_data_survive_a_reboot
            different_content_is_refused_while_a_shared_copy_exists
            a_shared_copy_is_refused_to_credentials_that_could_not_fetch_it
            a_target_that_fails_to_join_leaves_the_shared_copy_alone
            a_shared_copy_without_a_record_is_never_shown_again
            a_mounted_shared_copy_outlives_a_lost_record
            a_shared_copy_belongs_to_the_requested_user_and_group;
        abandoned:
            a_shared_copy_is_removed_with_the_last_target_that_is_gone
            a_volume_whose_target_cannot_be_checked_is_not_abandoned;
    }
}

over_every_format! {
    {
        of_images: Bench::images();
    }
    {
        images:
            every_fixture_is_shown_as_git_has_it
            targets_share_one_filesystem_and_the_second_fetches_nothing
            a_new_commit_is_another_image_over_old_and_new_segments
            an_unpublish_leaves_neither_mount_nor_loop_device
            a_mounted_image_survives_eviction_of_all_else
            an_eviction_frees_what_was_foretold
            a_writable_volume_is_a_copy_of_files
            a_node_without_images_says_so;
        formats:
            read_only_volumes_are_images_where_the_node_can_mount_them
            a_published_image_stays_whatever_the_configuration_says
            a_published_directory_stays_when_images_work
            an_image_is_replaced_by_a_directory_after_the_boot_of_a_kernel_without_images
            a_volume_that_must_be_an_image_is_never_a_directory;
        views:
            every_fixture_belongs_to_the_owners_that_were_asked_for
            groups_of_one_commit_share_its_segments
            a_view_is_made_without_remote_and_repository
            a_view_is_kept_and_the_same_again_after_a_reboot
            a_view_outlives_the_snapshot_that_it_was_made_of
            a_damaged_view_is_made_again_from_the_store
            a_view_of_a_damaged_snapshot_is_fetched
            a_volume_of_a_version_without_owners_stays_as_it_is;
        image_damage:
            a_damaged_image_is_replaced_once_it_is_unmounted
            a_damaged_image_is_replaced_while_another_target_shows_it
            a_damaged_segment_is_not_built_upon
            a_snapshot_from_a_backup_is_shown;
        older:
            a_store_of_an_older_version_is_set_aside_and_its_volumes_stay;
    }
}

over! {
    of_layers_over_directories: Bench::real();
    of_layers_over_images: Bench::images();
    ; {
        layers:
            pods_of_one_commit_write_at_once_and_see_only_their_own
            a_layer_survives_restarts_and_reboots_and_goes_with_its_target
            a_workspace_takes_no_space_before_the_first_write
            a_copy_is_a_copy_and_its_root_is_as_that_of_a_layer
            a_pod_with_mapped_ids_gets_a_copy
            ids_of_every_kind_but_overlays_can_be_mapped
            a_layer_beyond_the_limit_is_read_only_until_it_is_unpublished
            what_is_below_a_layer_does_not_count_towards_its_limit
            a_shared_layer_that_is_mounted_where_it_is_not_seen_is_refused;
        replaced:
            an_untouched_overlay_becomes_a_copy_in_its_place
            nobody_sees_anything_but_the_tree_meanwhile
            an_overlay_that_is_written_or_has_other_targets_stays
            a_failure_leaves_the_overlay
            what_a_dead_process_has_begun_is_finished_or_undone
            pods_that_share_never_see_two_trees;
    }
}

over! {
    of_layers_over_directories_alone: Bench::real();
    ; {
        layers:
            a_layer_over_a_directory_is_for_root_and_others_get_a_copy;
    }
}

over! {
    of_layers_over_images_alone: Bench::images();
    ; {
        layers:
            layers_over_an_image_share_one_lower_mount_until_the_last_is_gone
            a_layer_outlives_a_lost_lower_mount
            a_layer_over_an_image_belongs_to_its_user_and_group;
        replaced:
            the_copy_belongs_to_the_same_user_and_group;
        committing:
            members_of_a_group_commit_in_turn_and_others_are_told_why_not
            gits_own_commands_work_in_a_writable_volume;
        shared:
            targets_of_a_volume_share_a_copy_until_the_last_is_gone
            other_volumes_and_private_copies_do_not_show_a_shared_copy
            a_shared_copy_and_its_data_survive_a_reboot
            different_content_is_refused_while_a_shared_copy_exists
            a_target_that_fails_to_join_leaves_the_shared_copy_alone
            a_shared_copy_without_a_record_is_never_shown_again
            a_mounted_shared_copy_outlives_a_lost_record
            a_lost_shared_copy_is_made_again_from_the_same_commit
            a_shared_copy_belongs_to_the_requested_user_and_group;
    }
}

over! {
    of_layers_over_images_on_loop_devices: Bench::images_on_loop_devices();
    ; {
        layers:
            pods_of_one_commit_write_at_once_and_see_only_their_own
            a_layer_survives_restarts_and_reboots_and_goes_with_its_target
            layers_over_an_image_share_one_lower_mount_until_the_last_is_gone;
    }
}

over! {
    of_images_on_loop_devices: Bench::images_on_loop_devices();
    ; {
        images:
            every_fixture_is_shown_as_git_has_it
            targets_share_one_filesystem_and_the_second_fetches_nothing
            an_unpublish_leaves_neither_mount_nor_loop_device
            a_mounted_image_survives_eviction_of_all_else;
        image_damage:
            a_damaged_image_is_replaced_while_another_target_shows_it
            a_damaged_segment_is_not_built_upon;
    }
}

over! {
    with_a_damaged_base: Some(Bench::fake());
    ; {
        base_damage:
            r4_any_damage_of_a_repository_costs_no_more_than_a_fetch_without_it
            r4_a_repository_in_whose_place_is_something_else_is_replaced
            r4_a_fetch_that_fails_without_the_store_too_leaves_what_the_store_has;
    }
}

over! {
    of_images_with_verity: Bench::images_with_verity();
    ; {
        image_damage:
            r4_what_a_scrub_found_good_cannot_be_written_any_more;
    }
}
