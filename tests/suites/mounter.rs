//! What every mounter promises, run over the fake and over each way of mounting on Linux, on private and on shared
//! mounts; and what only real mounts can show.

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
    /// In a tmpfs in the thread's own mount namespace, or `None` without root.
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

    /// A source with a file `canary`, and a target, for a bind of this name.
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
            // Lazily, with everything mounted below: what a failed test left must not be removed through a mount.
            let _ = nix::mount::umount2(&self.home, MntFlags::MNT_DETACH);
        }
    }
}

/// Runs functions of a module, which take a [`Bench`], as tests over benches.
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
            exactly_what_is_attached_is_shown
            stacked_binds_are_peeled
            unmounting_what_is_not_mounted_is_no_error
            other_targets_stay_mounted
            odd_names_are_listed_as_they_are
            a_symlink_is_refused_and_nothing_mounted
            what_is_no_directory_is_refused
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
            a_bind_shows_the_source_and_not_what_is_mounted_below
            root_cannot_write_through_a_read_only_bind
            a_writable_bind_writes_the_source
            no_write_succeeds_at_the_first_visible_instant
            a_setuid_program_runs_as_its_caller
            a_device_cannot_be_opened
            noexec_of_the_source_stays
            a_target_in_use_is_unmounted_in_time_and_stays_whole_for_its_user
            a_mount_below_the_target_goes_with_it
            a_deleted_source_is_not_shown
            a_parent_swapped_for_a_symlink_leads_nowhere
            what_stays_mounted_is_in_every_list
            nothing_is_left_where_mounts_are_prepared
        }
    }
}
