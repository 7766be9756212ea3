//! A mounter that mounts nothing, and one that fails on purpose.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::mount::Mount;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Mounter;
use crate::mount::Role;
use crate::mount::directory;

/// A mount table in memory, for tests without root. Directories must exist as for the real one, but stay unchanged.
#[derive(Debug, Default)]
pub struct FakeMounter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounts: Vec<Mount>,
    calls: Vec<Call>,
}

/// One call to a [`FakeMounter`], successful or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Mounter::attach`].
    Attach(Mount),
    /// [`Mounter::shows`].
    Shows(Mount),
    /// [`Mounter::unmount`].
    Unmount(PathBuf),
    /// [`Mounter::list`].
    List,
    /// [`Mounter::sweep`].
    Sweep,
}

impl FakeMounter {
    /// Starts with nothing mounted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The current mounts, oldest first.
    pub fn mounts(&self) -> Vec<Mount> {
        self.state().mounts.clone()
    }

    /// Forgets all mounts, as a reboot does.
    pub fn reboot(&self) {
        self.state().mounts.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, call: Call) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.calls.push(call);
        state
    }
}

impl Mounter for FakeMounter {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        let mut state = self.called(Call::Attach(mount.clone()));
        directory::open(mount.attachment.path(), Role::Source)?;
        directory::open(&mount.target, Role::Target)?;
        state.mounts.push(mount.clone());
        Ok(())
    }

    fn shows(&self, asked: &Mount) -> Result<bool, MountError> {
        let state = self.called(Call::Shows(asked.clone()));
        for (path, role) in [(asked.attachment.path(), Role::Source), (&*asked.target, Role::Target)] {
            match directory::open(path, role) {
                Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(false),
                opened => opened?,
            };
        }
        let mut on_target = state.mounts.iter().filter(|mount| mount.target == asked.target);
        Ok(on_target.next() == Some(asked) && on_target.next().is_none())
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        let mut state = self.called(Call::Unmount(target.into()));
        match directory::open_parent(target, Role::Target) {
            Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(0),
            opened => opened?,
        };
        let before = state.mounts.len();
        state.mounts.retain(|mount| mount.target != target);
        Ok(before - state.mounts.len())
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        Ok(self.called(Call::List).mounts.iter().map(shown).collect())
    }

    fn sweep(&self) -> Result<usize, MountError> {
        let _state = self.called(Call::Sweep);
        Ok(0)
    }
}

fn shown(mount: &Mount) -> MountPoint {
    let access = if mount.read_only { "ro" } else { "rw" };
    MountPoint {
        target: mount.target.clone(),
        root: mount.attachment.path().to_owned(),
        device: "0:0".into(),
        filesystem: "fake".into(),
        options: [access, "nosuid", "nodev"].map(String::from).into(),
    }
}

/// A mounter whose `nth` call of one verb fails before it does anything; other calls go to the inner one.
#[derive(Debug)]
pub struct FailingMounter<M> {
    inner: M,
    verb: Verb,
    nth: usize,
    errno: i32,
    seen: AtomicUsize,
}

/// The verbs of a [`Mounter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the methods of the trait")]
pub enum Verb {
    Attach,
    Shows,
    Unmount,
    List,
    Sweep,
}

impl<M> FailingMounter<M> {
    /// Makes the `nth` call of `verb`, counted from 1, fail as if the system had returned `errno`.
    pub fn new(inner: M, verb: Verb, nth: usize, errno: i32) -> Self {
        Self { inner, verb, nth, errno, seen: AtomicUsize::new(0) }
    }

    /// The inner mounter.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn check(&self, verb: Verb, error: impl FnOnce(io::Error) -> MountError) -> Result<(), MountError> {
        if verb == self.verb && self.seen.fetch_add(1, Ordering::Relaxed) + 1 == self.nth {
            return Err(error(io::Error::from_raw_os_error(self.errno)));
        }
        Ok(())
    }
}

impl<M: Mounter> Mounter for FailingMounter<M> {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        self.check(Verb::Attach, |source| MountError::Attach { mount: mount.clone(), step: "injected", source })?;
        self.inner.attach(mount)
    }

    fn shows(&self, mount: &Mount) -> Result<bool, MountError> {
        self.check(Verb::Shows, table)?;
        self.inner.shows(mount)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        self.check(Verb::Unmount, |source| MountError::Unmount { target: target.into(), source })?;
        self.inner.unmount(target)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        self.check(Verb::List, table)?;
        self.inner.list()
    }

    fn sweep(&self) -> Result<usize, MountError> {
        self.check(Verb::Sweep, |source| MountError::Sweep { path: PathBuf::from("injected"), source })?;
        self.inner.sweep()
    }
}

fn table(source: io::Error) -> MountError {
    MountError::Table { path: PathBuf::from("injected"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_call_of_the_verb_fails() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let mount = Mount::bind(home.clone(), home, true);
        let mounter = FailingMounter::new(FakeMounter::new(), Verb::Attach, 2, libc::EIO);

        mounter.attach(&mount).unwrap();
        assert!(mounter.shows(&mount).unwrap());
        assert!(matches!(mounter.attach(&mount), Err(MountError::Attach { .. })));
        mounter.attach(&mount).unwrap();
        assert_eq!(mounter.inner().mounts().len(), 2);
    }

    #[test]
    fn calls_are_kept_in_order() {
        let mounter = FakeMounter::new();
        let target = PathBuf::from("/absent/target");
        mounter.unmount(&target).unwrap();
        mounter.list().unwrap();
        mounter.sweep().unwrap();
        assert_eq!(mounter.calls(), [Call::Unmount(target), Call::List, Call::Sweep]);
    }
}
