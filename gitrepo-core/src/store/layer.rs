//! The directories of a writable layer.
//!
//! ```text
//! upper/    what was changed; its owner and mode are those of the volume's root
//! access    an empty file. Nobody may write it once the layer has exceeded its limit: then the layer is read-only. It is
//!           made with the layer, since a full disk has no room for a new file
//! quota     the mark of the layer's project, where a project quota limits it
//! work/     the kernel's own; made last, so a layer that has it is complete
//! ```

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

use crate::quota::Projects;
use crate::snapshot::VolumeRoot;

use super::durable;
use super::error::StoreError;
use super::error::optional;

const UPPER: &str = "upper";
const WORK: &str = "work";
const ACCESS: &str = "access";

/// [`WORK`] until it belongs to the layer's project: the kernel moves files from there to [`UPPER`], and none from another
/// project.
const UNFINISHED_WORK: &str = "unfinished-work";

/// Beside a layer or a copy, where no pod comes.
pub(super) const QUOTA_MARK: &str = "quota";

/// The modes of [`ACCESS`].
const WRITABLE: u32 = 0o600;
const READ_ONLY: u32 = 0o400;

/// The place of a layer, which may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    directory: PathBuf,
}

impl Layer {
    pub(super) fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the directory of what was changed.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join(UPPER)
    }

    /// Returns the directory for the kernel's own use.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join(WORK)
    }

    /// Whether the layer was made. Nothing is written to one that is not complete.
    pub(crate) fn is_complete(&self) -> Result<bool, StoreError> {
        let work = self.work();
        Ok(optional(fs::symlink_metadata(&work).map_err(StoreError::io("examine", &work)))?.is_some())
    }

    /// Returns the mark of the layer's project, if it has one.
    pub(crate) fn quota_mark(&self) -> PathBuf {
        self.directory.join(QUOTA_MARK)
    }

    /// Makes the layer, with this root and a project of its own. Completes one that a dead process has begun.
    pub(crate) fn make(&self, root: VolumeRoot, projects: &Projects) -> Result<(), StoreError> {
        let (upper, work) = (self.upper(), self.work());
        make_directory(&upper)?;
        chown(&upper, Some(root.owner.uid), Some(root.owner.gid)).map_err(StoreError::io("give away", &upper))?;
        // After the owner, whose change may clear bits.
        fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode))
            .map_err(StoreError::io("set the permissions of", &upper))?;
        self.make_access()?;
        let project = projects.claim(&self.quota_mark());
        projects.assign(&upper, project).map_err(StoreError::io("limit", &upper))?;
        if project.is_none() {
            return make_directory(&work);
        }
        let unfinished = self.directory.join(UNFINISHED_WORK);
        make_directory(&unfinished)?;
        projects.assign(&unfinished, project).map_err(StoreError::io("limit", &unfinished))?;
        fs::rename(&unfinished, &work).map_err(StoreError::io("make", &work))
    }

    /// Whether the layer has exceeded its limit and is read-only since.
    pub(crate) fn is_full(&self) -> bool {
        let access = self.directory.join(ACCESS).symlink_metadata();
        access.is_ok_and(|found| found.permissions().mode() & (WRITABLE & !READ_ONLY) == 0)
    }

    /// Notes durably whether the layer is read-only until it is deleted. Takes no room on the disk.
    pub(crate) fn mark_full(&self, is_full: bool) -> Result<(), StoreError> {
        let access = self.directory.join(ACCESS);
        let failed = |error| StoreError::io("mark", &access)(error);
        let mark = || {
            let mode = if is_full { READ_ONLY } else { WRITABLE };
            fs::set_permissions(&access, fs::Permissions::from_mode(mode))?;
            File::open(&access)?.sync_all()
        };
        match mark() {
            // A power failure may have lost it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_access()?;
                durable::sync_directory(&self.directory)?;
                mark().map_err(failed)
            }
            marked => marked.map_err(failed),
        }
    }

    fn make_access(&self) -> Result<(), StoreError> {
        let access = self.directory.join(ACCESS);
        match File::options().write(true).create_new(true).mode(WRITABLE).open(&access) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop).map_err(StoreError::io("make", &access)),
        }
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(StoreError::io("make", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::PoisonError;

    use super::*;
    use crate::quota::ProjectQuota;
    use crate::quota::ProjectUsage;
    use crate::snapshot::Owner;
    use crate::store::fixture::on_small_filesystem;
    use crate::testing::FakeQuota;

    #[test]
    fn a_layer_is_complete_once_its_root_has_its_owner_and_mode() {
        let place = tempfile::tempdir().unwrap();
        let layer = Layer::in_directory(place.path());
        let user = nix::unistd::geteuid().as_raw();
        let group = nix::unistd::getegid().as_raw();
        assert!(!layer.is_complete().unwrap() && !layer.is_full());
        // As a process leaves it that is killed in between.
        make_directory(&layer.upper()).unwrap();
        assert!(!layer.is_complete().unwrap());
        let root = VolumeRoot { owner: Owner { uid: user, gid: group }, mode: 0o2775 };
        layer.make(root, &Projects::none()).unwrap();
        let found = fs::metadata(layer.upper()).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (user, group, 0o2775));
        assert!(layer.is_complete().unwrap() && !layer.is_full());
        for is_full in [true, true, false, true] {
            layer.mark_full(is_full).unwrap();
            assert_eq!(layer.is_full(), is_full);
        }
        fs::remove_file(place.path().join(ACCESS)).unwrap();
        assert!(!layer.is_full());
        layer.mark_full(true).unwrap();
        assert!(layer.is_full());
    }

    /// The kernel's bookkeeping, of a process that dies instead of its `dies_at`th change, if it is not `None`.
    #[derive(Debug)]
    struct Mortal {
        quota: Arc<FakeQuota>,
        dies_at: Mutex<Option<usize>>,
    }

    impl Mortal {
        fn change(&self) {
            let mut left = self.dies_at.lock().unwrap_or_else(PoisonError::into_inner);
            assert_ne!(*left, Some(0), "killed");
            *left = left.map(|left| left - 1);
        }
    }

    impl ProjectQuota for Mortal {
        fn is_enforced(&self, place: &Path) -> io::Result<bool> {
            self.quota.is_enforced(place)
        }

        fn project_of(&self, file: &Path) -> io::Result<u32> {
            self.quota.project_of(file)
        }

        fn set_project(&self, file: &Path, project: u32) -> io::Result<()> {
            self.change();
            self.quota.set_project(file, project)
        }

        fn usage(&self, place: &Path, project: u32) -> io::Result<ProjectUsage> {
            self.quota.usage(place, project)
        }

        fn limit(&self, place: &Path, project: u32, bytes: u64) -> io::Result<()> {
            self.change();
            self.quota.limit(place, project, bytes)
        }

        fn next(&self, place: &Path, project: u32) -> io::Result<Option<(u32, ProjectUsage)>> {
            self.quota.next(place, project)
        }
    }

    #[test]
    fn r1_a_layer_belongs_to_one_project_whenever_its_maker_died_and_no_limit_is_left() {
        let root = VolumeRoot { owner: Owner::ourselves(), mode: 0o777 };
        for dies_at in 0..5 {
            let place = tempfile::tempdir().unwrap();
            let quota = Arc::new(FakeQuota::new());
            let layer = Layer::in_directory(place.path());
            let make = |dies_at| {
                let mortal = Mortal { quota: Arc::clone(&quota), dies_at: Mutex::new(dies_at) };
                let projects = Projects::new(Arc::new(mortal), Some(5..=9), 1 << 20);
                catch_unwind(AssertUnwindSafe(|| layer.make(root, &projects))).map(Result::unwrap)
            };
            // Its mark, the limit, and two directories.
            assert_eq!(make(Some(dies_at)).is_ok(), dies_at == 4);
            assert_eq!(layer.is_complete().unwrap(), dies_at == 4);
            if dies_at < 4 {
                make(None).unwrap();
            }
            let projects =
                [layer.quota_mark(), layer.upper(), layer.work()].map(|path| quota.project_of(&path).unwrap());
            assert!(projects[0] != 0 && projects.iter().all(|project| *project == projects[0]), "{projects:?}");
            Projects::new(Arc::<FakeQuota>::clone(&quota), Some(5..=9), 0).sweep(place.path()).unwrap();
            assert_eq!(quota.limits().into_iter().collect::<Vec<_>>(), [(projects[0], 1 << 20)], "{dies_at}");
        }
    }

    #[test]
    fn a_layer_without_a_quota_is_completed_if_one_with_a_quota_was_begun() {
        let place = tempfile::tempdir().unwrap();
        let quota = Arc::new(FakeQuota::new());
        let layer = Layer::in_directory(place.path());
        make_directory(&layer.upper()).unwrap();
        quota.set_project(&layer.upper(), 5).unwrap();
        quota.enforce(false);
        let projects = Projects::new(Arc::<FakeQuota>::clone(&quota), Some(5..=9), 1 << 20);
        layer.make(VolumeRoot { owner: Owner::ourselves(), mode: 0o777 }, &projects).unwrap();
        assert!(layer.is_complete().unwrap() && !layer.quota_mark().exists());
        assert_eq!(quota.project_of(&layer.upper()).unwrap(), 0, "the kernel moves nothing from another project there");
    }

    #[test]
    fn a_layer_is_marked_on_a_disk_without_room_or_inodes() {
        on_small_filesystem("size=64k,nr_inodes=16", |place| {
            let layer = Layer::in_directory(place);
            layer.make(VolumeRoot { owner: Owner { uid: 0, gid: 0 }, mode: 0o777 }, &Projects::none()).unwrap();
            while fs::write(place.join("filler"), vec![0; 1 << 20]).is_ok() {}
            for number in 0.. {
                if File::create(place.join(format!("empty-{number}"))).is_err() {
                    break;
                }
            }
            layer.mark_full(true).unwrap();
            assert!(layer.is_full());
        });
    }
}
