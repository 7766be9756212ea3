//! A mounter that mounts nothing, and one that fails on purpose.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::mount::Attachment;
use crate::mount::EROFS;
use crate::mount::Mount;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Mounter;
use crate::mount::OVERLAY;
use crate::mount::Role;
use crate::mount::directory;
use crate::mount::overlay;

/// A mount table in memory, for tests without root. Directories and images must exist as for the real one, but stay
/// unchanged.
#[derive(Debug, Default)]
pub struct FakeMounter {
    state: Mutex<State>,
    has_overlays: bool,
    has_images: bool,
}

#[derive(Debug, Default)]
struct State {
    mounts: Vec<Mount>,
    calls: Vec<Call>,
    /// All images that were ever attached: the place of each is the number of its filesystem.
    images: Vec<PathBuf>,
    /// The upper layers of frozen overlays.
    frozen: Vec<PathBuf>,
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
    /// [`Mounter::freeze`].
    Freeze(PathBuf),
    /// [`Mounter::replace`], with the source and the target.
    Replace(PathBuf, PathBuf),
    /// [`Mounter::sweep`].
    Sweep,
}

impl FakeMounter {
    /// Starts with nothing mounted.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and says that overlays can be mounted. A test sees their layers, but no merged tree.
    pub fn with_overlays() -> Self {
        Self { has_overlays: true, ..Self::default() }
    }

    /// The same, and says that images can be mounted, too. Nothing is seen of their trees.
    pub fn with_images_and_overlays() -> Self {
        Self { has_images: true, ..Self::with_overlays() }
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
        let mut state = self.state();
        state.mounts.clear();
        state.frozen.clear();
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
        check_parts(mount)?;
        directory::open(&mount.target, Role::Target)?;
        state.remember(&mount.attachment);
        state.mounts.push(mount.clone());
        Ok(())
    }

    fn shows(&self, asked: &Mount) -> Result<bool, MountError> {
        let state = self.called(Call::Shows(asked.clone()));
        for opened in [check_source(&asked.attachment), directory::open(&asked.target, Role::Target).map(drop)] {
            match opened {
                Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(false),
                opened => opened?,
            };
        }
        let mut on_target = state.mounts.iter().filter(|mount| mount.target == asked.target);
        let (Some(only), None) = (on_target.next(), on_target.next()) else { return Ok(false) };
        let is_read_only = only.read_only || state.is_frozen(&only.attachment);
        Ok(is_same(&only.attachment, &asked.attachment) && is_read_only == asked.read_only)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        let mut state = self.called(Call::Unmount(target.into()));
        match directory::open_parent(target, Role::Target) {
            Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(0),
            opened => opened?,
        };
        let before = state.mounts.len();
        state.mounts.retain(|mount| mount.target != target);
        // The filesystem of an overlay ends with its last mount.
        let State { mounts, frozen, .. } = &mut *state;
        frozen.retain(|upper| mounts.iter().any(|mount| mount.attachment.path() == upper));
        Ok(before - state.mounts.len())
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        let state = self.called(Call::List);
        Ok(state.mounts.iter().map(|mount| state.shown(mount)).collect())
    }

    /// Says no: images can be attached, but a test could not look at what they show.
    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        if self.has_images {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::Unsupported, "nothing is really mounted");
        Err(MountError::NoImages { directory: directory.into(), step: "mount", source })
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        if self.has_overlays {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::Unsupported, "nothing is really mounted");
        Err(MountError::NoOverlays { directory: directory.into(), step: "mount", source })
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        let mut state = self.called(Call::Freeze(target.into()));
        match state.mounts.iter().rev().find(|mount| mount.target == target).map(|mount| &mount.attachment) {
            Some(Attachment::Overlay { upper, .. }) => {
                let upper = upper.clone();
                state.frozen.push(upper);
                Ok(())
            }
            _ => {
                let source = io::Error::new(io::ErrorKind::Unsupported, "something else is mounted there, or nothing");
                Err(MountError::Freeze { target: target.into(), step: "find the overlay", source })
            }
        }
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        let mut state = self.called(Call::Replace(source.into(), target.into()));
        let mount = Mount::bind(source, target, false);
        check_parts(&mount)?;
        let on_target: Vec<_> = (0..state.mounts.len()).filter(|at| state.mounts[*at].target == target).collect();
        match on_target[..] {
            [only] => state.mounts[only] = mount,
            [below, above] if state.mounts[below] == mount => drop(state.mounts.remove(above)),
            _ => {
                let source = io::Error::other("not one mount is there");
                return Err(MountError::Attach { mount: Box::new(mount), step: "find the mount to replace", source });
            }
        }
        Ok(())
    }

    fn can_replace(&self) -> bool {
        true
    }

    fn sweep(&self) -> Result<usize, MountError> {
        let _state = self.called(Call::Sweep);
        Ok(0)
    }
}

impl State {
    fn shown(&self, mount: &Mount) -> MountPoint {
        let access = if mount.read_only { "ro" } else { "rw" };
        let (target, path) = (mount.target.clone(), mount.attachment.path().to_owned());
        let options = [access, "nosuid", "nodev"].map(String::from).into();
        match &mount.attachment {
            Attachment::Bind { .. } => MountPoint {
                target,
                root: path,
                device: "0:0".into(),
                filesystem: "fake".into(),
                source: "none".into(),
                options,
                filesystem_options: vec!["rw".into()],
            },
            Attachment::Image { .. } => MountPoint {
                target,
                root: "/".into(),
                device: self.device_of(&path),
                filesystem: EROFS.into(),
                source: path,
                options,
                filesystem_options: vec!["ro".into()],
            },
            Attachment::Overlay { lower, upper, .. } => {
                let is_read_only = mount.read_only || self.is_frozen(&mount.attachment);
                let layer = |key: &str, path: &Path| [OsStr::new(key), path.as_os_str()].join(OsStr::new("="));
                MountPoint {
                    target,
                    root: "/".into(),
                    device: "0:0".into(),
                    filesystem: OVERLAY.into(),
                    source: OVERLAY.into(),
                    options,
                    filesystem_options: vec![
                        if is_read_only { "ro" } else { "rw" }.into(),
                        layer("lowerdir", lower),
                        layer("upperdir", upper),
                    ],
                }
            }
        }
    }

    /// Whether this is an overlay whose layer is read-only.
    fn is_frozen(&self, attachment: &Attachment) -> bool {
        matches!(attachment, Attachment::Overlay { upper, .. } if self.frozen.contains(upper))
    }

    fn remember(&mut self, attachment: &Attachment) {
        if let Attachment::Image { metadata, .. } = attachment
            && !self.images.contains(metadata)
        {
            self.images.push(metadata.clone());
        }
    }

    /// The mounts of an image are of one filesystem.
    fn device_of(&self, image: &Path) -> String {
        let number = self.images.iter().position(|known| known == image);
        format!("0:{}", number.map_or(0, |number| number + 1))
    }
}

/// Checks everything that a mount needs but its target.
fn check_parts(mount: &Mount) -> Result<(), MountError> {
    match &mount.attachment {
        Attachment::Bind { .. } => check_source(&mount.attachment),
        Attachment::Image { metadata, devices } => {
            check_source(&mount.attachment)?;
            if !mount.read_only {
                return Err(MountError::WritableImage { image: metadata.clone() });
            }
            devices.iter().try_for_each(|device| directory::open_file(device, Role::Device).map(drop))
        }
        Attachment::Overlay { lower, upper, work } => overlay::Layers { lower, upper, work, label: None }.check(),
    }
}

fn check_source(attachment: &Attachment) -> Result<(), MountError> {
    match attachment {
        Attachment::Bind { source } => directory::open(source, Role::Source).map(drop),
        Attachment::Image { metadata, .. } => directory::open_file(metadata, Role::Source).map(drop),
        Attachment::Overlay { upper, .. } => directory::open(upper, Role::Layer).map(drop),
    }
}

/// Whether both are the same directory, the same image, or of the same layer.
fn is_same(a: &Attachment, b: &Attachment) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b) && a.path() == b.path()
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
    CheckOverlays,
    Freeze,
    Replace,
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
        self.check(Verb::Attach, |source| MountError::Attach {
            mount: Box::new(mount.clone()),
            step: "injected",
            source,
        })?;
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

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        self.inner.check_images(directory)
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        self.check(Verb::CheckOverlays, |source| MountError::NoOverlays {
            directory: directory.into(),
            step: "injected",
            source,
        })?;
        self.inner.check_overlays(directory)
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        self.check(Verb::Freeze, |source| MountError::Freeze { target: target.into(), step: "injected", source })?;
        self.inner.freeze(target)
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        self.check(Verb::Replace, |error| MountError::Attach {
            mount: Box::new(Mount::bind(source, target, false)),
            step: "injected",
            source: error,
        })?;
        self.inner.replace(source, target)
    }

    fn can_replace(&self) -> bool {
        self.inner.can_replace()
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
