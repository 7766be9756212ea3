//! The promises of every mounter, tested with the fake and with each way of mounting on Linux, on private and on shared
//! mounts, and promises that only real mounts can test. Images are tested from files and from loop devices.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::chain;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountPoint;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::Backing;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_core::testing::FakeMounter;
use gitrepo_tests::images::Image;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::loopfs::loop_devices_below;
use gitrepo_tests::namespace;
use gitrepo_tests::require;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use tempfile::TempDir;

mod contract;
mod image_contract;
mod image_devices;
mod image_kernel;
mod image_kills;
mod image_store;
mod image_support;
mod killed;
mod linux;
mod overlay_contract;
mod overlay_kernel;

/// A mounter, and a directory to use it in.
struct Bench<M> {
    mounter: M,
    home: PathBuf,
    mounted: bool,
    _place: Place,
}

/// Kept until the end of a test.
enum Place {
    Directory { _directory: TempDir },
    FileSystem { _file_system: LoopFs },
}

impl Bench<FakeMounter> {
    fn fake() -> Self {
        let place = TempDir::new().unwrap();
        let home = place.path().canonicalize().unwrap();
        Self { mounter: FakeMounter::new(), home, mounted: false, _place: Place::Directory { _directory: place } }
    }
}

impl Bench<LinuxMounter> {
    /// A tmpfs in the thread's own mount namespace, or `None` without root.
    fn linux(strategy: Strategy, propagation: MsFlags) -> Option<Self> {
        if !can_mount(strategy) {
            return None;
        }
        namespace::private_mounts();
        let place = TempDir::new().unwrap();
        let home = place.path().canonicalize().unwrap();
        nix::mount::mount(Some("tmpfs"), &home, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        Some(Self::at(home, strategy, propagation, Place::Directory { _directory: place }))
    }

    /// A filesystem whose images the kernel reads in this way: an ext4 on which it can mount files, or a tmpfs on which
    /// it cannot. `None` without root or EROFS.
    fn of_images(strategy: Strategy, propagation: MsFlags, backing: Backing) -> Option<Self> {
        if !can_mount(strategy) {
            return None;
        }
        let bench = match backing {
            Backing::Files => {
                let file_system = LoopFs::if_possible(64 << 20)?;
                let home = file_system.path().canonicalize().unwrap();
                Self::at(home, strategy, propagation, Place::FileSystem { _file_system: file_system })
            }
            Backing::LoopDevices => Self::linux(strategy, propagation)?,
        };
        let supported = match bench.mounter.image_support(&bench.home) {
            Ok(support) if support.backing == backing => return Some(bench),
            Ok(support) => format!("{:?}", support.backing),
            Err(error) => chain(&error),
        };
        let _skipped = require::feature(false, &format!("images mounted from {backing:?} (only {supported})"));
        None
    }

    fn at(home: PathBuf, strategy: Strategy, propagation: MsFlags, place: Place) -> Self {
        nix::mount::mount(None::<&str>, &home, None::<&str>, propagation, None::<&str>).unwrap();
        let mounter = LinuxMounter::with_strategy(home.join("mounting"), strategy);
        Self { mounter, home, mounted: true, _place: place }
    }
}

fn can_mount(strategy: Strategy) -> bool {
    let works = strategy != Strategy::Detached || Strategy::of_this_kernel() == Strategy::Detached;
    require::root("to mount") && require::feature(works, "detached mounts (Linux 5.12)")
}

impl<M: Mounter> Bench<M> {
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.join(name)
    }

    fn directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A bind mount of this name, with a file `canary` in its source.
    fn bind(&self, name: &str, read_only: bool) -> Mount {
        let source = self.directory(format!("source-{name}"));
        fs::write(source.join("canary"), "alive").unwrap();
        Mount::bind(source, self.directory(format!("target-{name}")), read_only)
    }

    /// A writable overlay of this name, with a file `canary` and a directory `directory` in its lower layer.
    fn overlay(&self, name: &str) -> Mount {
        let [lower, upper, work] =
            ["lower", "upper", "work"].map(|layer| self.directory(format!("overlay-{name}/{layer}")));
        fs::create_dir_all(lower.join("directory/inner")).unwrap();
        fs::write(lower.join("canary"), "alive").unwrap();
        let attachment = Attachment::Overlay { lower, upper, work };
        Mount { attachment, target: self.directory(format!("target-{name}")), read_only: false }
    }

    /// An image with two devices, in a directory of this name.
    fn image(&self, name: &str) -> Image {
        // The sum of the letters is different for the names that the tests use.
        let seed = name.bytes().fold(1, u8::wrapping_add);
        Image::write(&self.path(name), 2, seed)
    }

    fn mounts_on(&self, target: &Path) -> Vec<MountPoint> {
        self.mounter.list().unwrap().into_iter().filter(|mount| mount.target == target).collect()
    }
}

impl<M> Drop for Bench<M> {
    fn drop(&mut self) {
        if self.mounted {
            // Detaches everything below, so that nothing is removed through a mount that a failed test left.
            let _ = nix::mount::umount2(&self.home, MntFlags::MNT_DETACH);
        }
    }
}

/// Makes tests of a module's functions, which take a [`Bench`], for each bench.
macro_rules! over {
    ($($bench:ident: $make:expr;)*; $promises:tt) => { $(over!(@ $bench $make; $promises);)* };
    (@ $bench:ident $make:expr; { $module:ident: $($promise:ident)* }) => {
        mod $bench {
            #[allow(unused_imports)]
            use super::super::*;
            $(#[test]
            fn $promise() {
                let bench: Option<_> = $make;
                if let Some(bench) = bench {
                    super::super::$module::$promise(&bench);
                }
            })*
        }
    };
}

mod promises {
    over! {
        fake: Some(Bench::fake());
        detached_on_private: Bench::linux(Strategy::Detached, MsFlags::MS_PRIVATE);
        detached_on_shared: Bench::linux(Strategy::Detached, MsFlags::MS_SHARED);
        place_on_private: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        place_on_shared: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        ; { contract:
            a_bind_is_listed_with_its_flags
            a_mount_shows_exactly_its_attachment
            stacked_binds_are_all_unmounted
            unmounting_an_unmounted_target_succeeds
            other_targets_stay_mounted
            unusual_names_are_listed_correctly
            a_symlink_is_refused_and_nothing_mounted
            sources_and_targets_must_be_directories
            a_relative_path_is_refused
            a_hundred_threads_bind_and_unmount
            concurrent_unmounts_share_the_layers
            a_sweep_leaves_mounts_alone
        }
    }
}

mod promises_of_the_kernel {
    over! {
        detached_on_private: Bench::linux(Strategy::Detached, MsFlags::MS_PRIVATE);
        detached_on_shared: Bench::linux(Strategy::Detached, MsFlags::MS_SHARED);
        place_on_private: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        place_on_shared: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        ; { linux:
            a_bind_shows_the_source_without_mounts_below_it
            root_cannot_write_through_a_read_only_bind
            a_writable_bind_writes_the_source
            no_write_succeeds_from_the_first_visible_moment
            a_setuid_program_runs_as_its_caller
            a_device_cannot_be_opened
            noexec_of_the_source_is_kept
            a_target_in_use_is_unmounted_in_time_and_its_user_keeps_the_tree
            a_mount_below_the_target_is_unmounted_with_it
            a_deleted_source_is_not_shown
            a_parent_swapped_for_a_symlink_does_not_redirect_a_mount
            permanent_mounts_are_in_every_list
            nothing_is_left_in_the_working_directory
        }
    }
}

mod promises_about_overlays {
    over! {
        fake: Some(Bench::fake());
        detached_on_private: Bench::linux(Strategy::Detached, MsFlags::MS_PRIVATE);
        detached_on_shared: Bench::linux(Strategy::Detached, MsFlags::MS_SHARED);
        place_on_private: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        place_on_shared: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        ; { overlay_contract:
            an_overlay_is_listed_with_its_flags_and_layers
            a_mount_shows_exactly_its_layer
            overlays_on_binds_are_all_unmounted
            layers_and_targets_must_be_directories
            a_symlink_is_refused_and_nothing_mounted
            a_path_that_options_cannot_express_is_refused
            a_frozen_overlay_is_read_only_until_its_last_mount_is_gone
            only_an_overlay_is_frozen
            a_sweep_leaves_overlays_alone
        }
    }
}

mod promises_of_the_kernel_about_overlays {
    over! {
        detached_on_private: Bench::linux(Strategy::Detached, MsFlags::MS_PRIVATE);
        detached_on_shared: Bench::linux(Strategy::Detached, MsFlags::MS_SHARED);
        place_on_private: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        place_on_shared: Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        ; { overlay_kernel:
            changes_go_to_the_upper_layer
            the_root_has_the_owner_and_mode_of_the_upper_layer
            a_directory_of_the_lower_layer_is_renamed
            a_change_of_owner_copies_no_data
            targets_of_one_layer_share_a_filesystem
            many_threads_attach_one_layer_once
            a_layer_in_use_in_another_mount_namespace_is_refused
            a_layer_that_another_is_just_leaving_is_mounted
            a_layer_over_another_lower_one_than_before_is_mounted
            a_read_only_overlay_is_never_writable
            a_frozen_overlay_refuses_writes_on_all_targets
            an_overlay_with_a_file_open_for_writing_is_frozen_later
            a_trial_says_whether_overlays_work_and_leaves_nothing_mounted
            a_deleted_layer_is_not_shown
            a_directory_of_an_overlay_is_not_frozen
            a_writable_overlay_on_a_full_disk_is_refused_and_mounted_once_there_is_room
            layers_with_paths_of_more_than_255_bytes_are_mounted
            nothing_is_left_in_the_working_directory
        }
    }
}

mod promises_about_images {
    over! {
        fake: Some(Bench::fake());
        files_detached_on_private: files(Strategy::Detached, MsFlags::MS_PRIVATE);
        files_detached_on_shared: files(Strategy::Detached, MsFlags::MS_SHARED);
        files_place_on_private: files(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        files_place_on_shared: files(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        loop_devices_detached_on_private: loop_devices(Strategy::Detached, MsFlags::MS_PRIVATE);
        loop_devices_detached_on_shared: loop_devices(Strategy::Detached, MsFlags::MS_SHARED);
        loop_devices_place_on_private: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        loop_devices_place_on_shared: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        ; { image_contract:
            an_image_is_listed_with_its_flags
            a_mount_shows_exactly_its_image
            targets_of_one_image_share_a_filesystem
            many_threads_attach_one_image_once
            images_on_images_and_binds_are_all_unmounted
            an_image_is_never_writable
            images_and_devices_must_be_files
            a_symlink_is_refused_and_nothing_mounted
            a_sweep_leaves_images_alone
        }
    }
}

mod promises_of_the_kernel_about_images {
    over! {
        files_detached_on_private: files(Strategy::Detached, MsFlags::MS_PRIVATE);
        files_place_on_shared: files(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        loop_devices_detached_on_shared: loop_devices(Strategy::Detached, MsFlags::MS_SHARED);
        loop_devices_place_on_private: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        ; { image_kernel:
            each_file_is_read_from_its_device
            not_even_a_remount_makes_an_image_writable
            readers_keep_the_tree_after_a_lazy_unmount
            nothing_is_left_after_the_last_unmount
            a_covered_mount_is_not_shared
            a_mount_with_other_flags_is_not_shared
            a_new_image_at_an_old_path_is_neither_shown_nor_shared
            an_image_is_shown_wherever_its_store_is_mounted
            nothing_is_left_in_the_working_directory
        }
    }
}

mod devices_of_images {
    over! {
        files_detached_on_private: files(Strategy::Detached, MsFlags::MS_PRIVATE);
        files_place_on_shared: files(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        loop_devices_detached_on_shared: loop_devices(Strategy::Detached, MsFlags::MS_SHARED);
        loop_devices_place_on_private: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        ; { image_devices:
            a_wrong_number_of_devices_is_refused
            a_device_that_was_cut_off_is_refused
            reads_beyond_the_end_of_a_device_fail
            an_error_has_the_words_of_the_kernel
            a_hundred_devices_are_mounted
        }
    }
}

mod images_and_stores {
    over! {
        files_detached_on_private: files(Strategy::Detached, MsFlags::MS_PRIVATE);
        files_place_on_shared: files(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        loop_devices_detached_on_shared: loop_devices(Strategy::Detached, MsFlags::MS_SHARED);
        loop_devices_place_on_private: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        ; { image_store:
            a_snapshot_whose_image_is_mounted_is_not_evicted
            an_image_of_the_store_without_a_record_is_removed
            an_image_of_another_store_stays
        }
    }
}

mod kills {
    over! {
        files_detached_on_private: files(Strategy::Detached, MsFlags::MS_PRIVATE);
        files_place_on_shared: files(Strategy::PrivateDirectory, MsFlags::MS_SHARED);
        loop_devices_detached_on_shared: loop_devices(Strategy::Detached, MsFlags::MS_SHARED);
        loop_devices_place_on_private: loop_devices(Strategy::PrivateDirectory, MsFlags::MS_PRIVATE);
        ; { image_kills:
            nothing_is_left_of_a_killed_process
        }
    }
}

fn files(strategy: Strategy, propagation: MsFlags) -> Option<Bench<LinuxMounter>> {
    Bench::of_images(strategy, propagation, Backing::Files)
}

fn loop_devices(strategy: Strategy, propagation: MsFlags) -> Option<Bench<LinuxMounter>> {
    Bench::of_images(strategy, propagation, Backing::LoopDevices)
}
