//! Project quotas in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::quota::ProjectQuota;
use crate::quota::ProjectUsage;

/// Counts files and directories that were given to projects, until they are deleted; and no bytes but those of
/// [`FakeQuota::write`]. Nothing inherits a project, and no write is refused.
#[derive(Debug, Default)]
pub struct FakeQuota {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_off: bool,
    /// By device and inode, which no other file has while it is open.
    projects: BTreeMap<(u64, u64), (File, u32)>,
    bytes: BTreeMap<u32, u64>,
    limits: BTreeMap<u32, u64>,
    refusal: Option<i32>,
}

impl FakeQuota {
    /// Starts with no project.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops or begins to enforce limits, as a mount with or without the option does.
    pub fn enforce(&self, is_enforced: bool) {
        self.state().is_off = !is_enforced;
    }

    /// Lets all changes fail as if the system had returned `errno`, until `None`.
    pub fn refuse(&self, errno: Option<i32>) {
        self.state().refusal = errno;
    }

    /// Says that the files of a project take so many bytes.
    pub fn write(&self, project: u32, bytes: u64) {
        self.state().bytes.insert(project, bytes);
    }

    /// The limits that are set, by project.
    pub fn limits(&self) -> BTreeMap<u32, u64> {
        self.state().limits.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.refusal {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(state),
        }
    }
}

impl ProjectQuota for FakeQuota {
    fn is_enforced(&self, place: &Path) -> io::Result<bool> {
        open(place)?;
        Ok(!self.state().is_off)
    }

    fn project_of(&self, file: &Path) -> io::Result<u32> {
        let (identity, _) = open(file)?;
        Ok(self.state().projects.get(&identity).map_or(0, |(_, project)| *project))
    }

    fn set_project(&self, file: &Path, project: u32) -> io::Result<()> {
        let (identity, opened) = open(file)?;
        self.changing()?.projects.insert(identity, (opened, project));
        Ok(())
    }

    fn usage(&self, place: &Path, project: u32) -> io::Result<ProjectUsage> {
        open(place)?;
        Ok(self.state().usage(project))
    }

    fn limit(&self, place: &Path, project: u32, bytes: u64) -> io::Result<()> {
        open(place)?;
        let mut state = self.changing()?;
        match bytes {
            0 => state.limits.remove(&project),
            _ => state.limits.insert(project, bytes),
        };
        Ok(())
    }

    fn next(&self, place: &Path, project: u32) -> io::Result<Option<(u32, ProjectUsage)>> {
        open(place)?;
        let state = self.state();
        let given = state.projects.values().map(|(_, project)| *project);
        let mut known: Vec<_> = given.chain(state.limits.keys().copied()).filter(|known| *known >= project).collect();
        known.sort_unstable();
        let mut found = known.into_iter().map(|project| (project, state.usage(project)));
        Ok(found.find(|(_, usage)| *usage != ProjectUsage::default()))
    }
}

impl State {
    fn usage(&self, project: u32) -> ProjectUsage {
        // The last name of a file, or of a directory, is gone.
        let exists = |file: &File| file.metadata().is_ok_and(|found| found.nlink() > 0);
        let files = self.projects.values().filter(|(file, of)| *of == project && exists(file));
        let inodes = u64::try_from(files.count()).unwrap_or(u64::MAX);
        let bytes = self.bytes.get(&project).copied().filter(|_| inodes > 0).unwrap_or_default();
        ProjectUsage { bytes, inodes, limit: self.limits.get(&project).copied().unwrap_or_default() }
    }
}

fn open(path: &Path) -> io::Result<((u64, u64), File)> {
    let opened = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = opened.metadata()?;
    Ok(((found.dev(), found.ino()), opened))
}
