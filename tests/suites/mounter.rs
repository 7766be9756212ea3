//! The promises of every mounter, tested with the fake and with each way of mounting on Linux, on private and on shared
//! mounts, and promises that only real mounts can test.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountPoint;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_core::testing::FakeMounter;
use gitrepo_tests::namespace;
use gitrepo_tests::require;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use tempfile::TempDir;

mod contract;
mod killed;
mod linux;

/// A mounter, and a directory to use it in.
struct Bench<M> {
    mounter: M,
    home: PathBuf,
    mounted: bool,
    _place: TempDir,
}

impl Bench<FakeMounter> {
    fn fake() -> Self {
        let place = TempDir::new().unwrap();
        let home = place.path().canonicalize().unwrap();
        Self { mounter: FakeMounter::new(), home, mounted: false, _place: place }
    }
}

impl Bench<LinuxMounter> {
    /// A tmpfs in the thread's own mount namespace, or `None` without root.
    fn linux(strategy: Strategy, propagation: MsFlags) -> Option<Self> {
        let works = strategy != Strategy::Detached || Strategy::of_this_kernel() == Strategy::Detached;
        if !require::root("to mount") || !require::feature(works, "detached mounts (Linux 5.12)") {
            return None;
        }
        namespace::private_mounts();
        let place = TempDir::new().unwrap();
        let home = place.path().canonicalize().unwrap();
        nix::mount::mount(Some("tmpfs"), &home, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        nix::mount::mount(None::<&str>, &home, None::<&str>, propagation, None::<&str>).unwrap();
        let mounter = LinuxMounter::with_strategy(home.join("mounting"), strategy);
        Some(Self { mounter, home, mounted: true, _place: place })
    }
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
