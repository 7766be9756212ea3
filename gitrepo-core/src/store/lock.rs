//! Locks between processes: `flock`s on files created on demand.
//!
//! The lock file of a target also contains a mark, which tells a publish whether the target was unpublished meanwhile.
//! An OFD lock ([`MarkWatch`]) protects the file from sweeps.
//!
//! A process that dies, by any signal, releases its locks. To avoid deadlock they are taken in this order, with gaps
//! allowed: ask, resolve, repository or fetch, compose, snapshot, target, volume, lower. Whoever waits for a compose's
//! lock may use snapshots meanwhile: its holder waits for no exclusive lock of one. The holder of a repository's lock may
//! try to take a fetch's, and the other way round, but neither waits for it. Serving a hit never waits for a lock that a
//! fetch holds: it takes the locks of its target and of a snapshot, and an evictor never waits for a snapshot's lock. The
//! holder of a volume's lock makes, joins or leaves its shared copy or layer and fetches nothing. The only locks that it
//! waits for are that of a lower mount and the one for making room, whose holders never wait for another lock.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::FcntlArg;
use nix::fcntl::fcntl;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

use super::durable;
use super::error::StoreError;
use super::error::optional;

mod release;

use release::Held;
use release::Releases;

/// First and longest pause between two attempts to take a lock that another process holds. `flock` has no timeout and
/// cannot be interrupted from another thread. Polling 40 times a second costs less than one part in ten thousand of a
/// processor. A thread of this process says when it releases a lock.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// What a lock protects, identified by a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LockName {
    /// All operations on one target.
    Target(String),
    /// Shared while a remote is asked with one credential, exclusive to forget the credential.
    Resolve(String),
    /// Asking a remote with one credential, for one tenant.
    Ask(String),
    /// Fetching into one repository.
    Repository(String),
    /// Fetching a commit of one repository for one tenant.
    Fetch(String),
    /// Composing one snapshot of those of submodules.
    Compose(String),
    /// Shared while a snapshot is in use, exclusive to evict it.
    Snapshot(String),
    /// Making, joining and leaving the copy or layer shared by the targets of one volume.
    Volume(String),
    /// Shared while an overlay is made over the lower mount of a snapshot, exclusive to make or remove that.
    Lower(String),
    /// Making the node's key.
    AccessKey,
    /// Sweeping.
    Sweep,
    /// Making room.
    Evict,
    /// Verifying everything in the background.
    Scrub,
}

impl LockName {
    fn locked(&self, source: Interrupted) -> StoreError {
        let of_volume = matches!(self, Self::Target(_) | Self::Volume(_));
        StoreError::Locked { lock: self.to_string(), of_volume, source }
    }

    fn file_name(&self) -> String {
        match self {
            Self::Target(hash) => format!("{TARGET_PREFIX}{hash}"),
            Self::Resolve(hash) => format!("resolve-{hash}"),
            Self::Ask(hash) => format!("ask-{hash}"),
            Self::Repository(hash) => format!("repository-{hash}"),
            Self::Fetch(hash) => format!("fetch-{hash}"),
            Self::Compose(hash) => format!("compose-{hash}"),
            Self::Snapshot(hash) => format!("snapshot-{hash}"),
            Self::Volume(hash) => format!("{VOLUME_PREFIX}{hash}"),
            Self::Lower(hash) => format!("lower-{hash}"),
            Self::AccessKey => "access-key".to_owned(),
            Self::Sweep => "sweep".to_owned(),
            Self::Evict => "evict".to_owned(),
            Self::Scrub => "scrub".to_owned(),
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target(_) => "working on this target",
            Self::Resolve(_) => "using this credential",
            Self::Ask(_) => "resolving a revision of this repository",
            Self::Repository(_) => "fetching this repository",
            Self::Fetch(_) => "fetching this commit",
            Self::Compose(_) => "putting this tree and its submodules together",
            Self::Snapshot(_) => "using this snapshot",
            Self::Volume(_) => "working on this volume's shared copy or layer",
            Self::Lower(_) => "mounting this snapshot as a lower layer",
            Self::AccessKey => "making the node's key",
            Self::Sweep => "sweeping the store",
            Self::Evict => "making room in the store",
            Self::Scrub => "verifying the store",
        })
    }
}

const TARGET_PREFIX: &str = "target-";
const VOLUME_PREFIX: &str = "volume-";

/// How many processes may hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// A lock, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Dropped after the lock is released. `None` for the lock of a file that is not among [`Locks`].
    _held: Option<Held>,
}

/// A random value that the last unpublish of a target wrote into its lock file. No two are equal.
pub(crate) type Mark = [u8; 16];

/// The mark in a lock file when the watch began. While this lives, no sweep removes the file, which would hide a newer
/// mark. It does not hold the lock itself.
#[derive(Debug)]
pub(crate) struct MarkWatch {
    file: File,
    mark: Option<Mark>,
}

impl Lock {
    /// Replaces the mark in the lock file.
    pub(crate) fn write_mark(&self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(mark, 0)
    }
}

impl MarkWatch {
    /// Whether the mark has been replaced since the watch began.
    pub(crate) fn is_outdated(&self) -> io::Result<bool> {
        Ok(read_mark(&self.file)? != self.mark)
    }
}

impl Drop for MarkWatch {
    fn drop(&mut self) {
        // As for [`Lock`].
        drop(lock_mark(&self.file, libc::F_UNLCK));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would keep the lock while a child between fork and exec still shares the descriptor.
        drop(self.file.unlock());
    }
}

/// How waiting for a lock ended.
#[derive(Debug)]
pub(crate) enum Turn<L, T> {
    /// We hold the lock.
    Ours(L),
    /// Another process has done the work.
    Done(T),
}

/// The directory of lock files.
#[derive(Debug)]
pub(crate) struct Locks {
    directory: PathBuf,
    releases: Arc<Releases>,
}

impl Locks {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, releases: Arc::default() }
    }

    /// Returns the lock's file, which may not exist.
    pub(crate) fn path(&self, name: &LockName) -> PathBuf {
        self.directory.join(name.file_name())
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_acquire(&self, name: &LockName, mode: Mode) -> Result<Option<Lock>, StoreError> {
        let mut lock = self.with_room(|| try_lock_file(&self.path(name), mode))?;
        if let Some(lock) = &mut lock {
            lock._held = Some(self.releases.hold(name.file_name()));
        }
        Ok(lock)
    }

    /// Creates a lock file. On a full disk, unused lock files make room for it, so that an unpublish always succeeds.
    fn with_room<T>(&self, create: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match create() {
            Err(error) if error.is_full() => {
                self.remove_unused(|file| file.starts_with(TARGET_PREFIX) || file.starts_with(VOLUME_PREFIX))?;
                create()
            }
            result => result,
        }
    }

    /// Waits for the lock until `cancel` ends the wait.
    pub(crate) fn acquire(&self, name: &LockName, mode: Mode, cancel: &Cancel) -> Result<Lock, StoreError> {
        match self.acquire_unless(name, mode, cancel, || Ok(None::<std::convert::Infallible>))? {
            Turn::Ours(lock) => Ok(lock),
            Turn::Done(never) => match never {},
        }
    }

    /// Waits for the lock, or until `done` returns an answer that makes it unnecessary, whichever comes first.
    ///
    /// That way, all calls that waited for one fetch return together when it ends, instead of queueing for a lock only
    /// to find that there is nothing to do.
    pub(crate) fn acquire_unless<T>(
        &self,
        name: &LockName,
        mode: Mode,
        cancel: &Cancel,
        mut done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<Lock, T>, StoreError> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(lock) = self.try_acquire(name, mode)? {
                return Ok(Turn::Ours(lock));
            }
            if let Some(answer) = done()? {
                return Ok(Turn::Done(answer));
            }
            cancel.check().map_err(|source| name.locked(source))?;
            self.releases.wait(&name.file_name(), cancel.remaining().map_or(pause, |left| left.min(pause)));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Remembers the mark in a lock file, and protects the file from sweeps, whoever holds the lock.
    pub(crate) fn watch_mark(&self, name: &LockName, cancel: &Cancel) -> Result<MarkWatch, StoreError> {
        let path = self.directory.join(name.file_name());
        loop {
            let file = self.with_room(|| open(&path))?;
            if lock_mark(&file, libc::F_RDLCK).map_err(StoreError::io("lock", &path))? && is_named(&file, &path)? {
                let mark = read_mark(&file).map_err(StoreError::io("read", &path))?;
                return Ok(MarkWatch { file, mark });
            }
            // A sweep is removing the file at this moment.
            cancel.check().map_err(|source| name.locked(source))?;
            thread::sleep(FIRST_PAUSE);
        }
    }

    /// Removes the files of free locks, except those that `keep` names or a [`MarkWatch`] needs, and returns their
    /// number.
    pub(crate) fn remove_unused(&self, keep: impl Fn(&str) -> bool) -> Result<usize, StoreError> {
        let mut removed = 0;
        for path in durable::entries(&self.directory)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(&keep) {
                continue;
            }
            // The file is removed while we hold its lock. A process that has opened it meanwhile sees, once it has the
            // lock, that the name leads elsewhere, and starts over.
            if let Some(_lock) = try_lock_existing(&path)? {
                let file = open(&path)?;
                if lock_mark(&file, libc::F_WRLCK).map_err(StoreError::io("lock", &path))? {
                    fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Returns the file whose lock protects the target with this hash.
    pub(crate) fn target_file_name(target: &str) -> String {
        LockName::Target(target.to_owned()).file_name()
    }

    /// Returns the file whose lock protects the shared copy of the volume with this hash.
    pub(crate) fn volume_file_name(volume: &str) -> String {
        LockName::Volume(volume.to_owned()).file_name()
    }
}

fn try_lock_file(path: &Path, mode: Mode) -> Result<Option<Lock>, StoreError> {
    loop {
        let Some(lock) = try_lock_open(open(path)?, mode, path)? else { return Ok(None) };
        if is_named(&lock.file, path)? {
            return Ok(Some(lock));
        }
    }
}

/// Opens a lock file, and creates it if there is none.
fn open(path: &Path) -> Result<File, StoreError> {
    durable::open_in_place(path).map_err(StoreError::io("open", path))
}

/// Locks a lock file against removal (`F_RDLCK`), or in order to remove it (`F_WRLCK`), until it is closed. Returns
/// whether that was possible. The kernel keeps this kind of lock apart from `flock`, so the two never conflict.
fn lock_mark(file: &File, kind: libc::c_int) -> io::Result<bool> {
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads the mark in a lock file; `None` if the target has not been unpublished since the file was created.
fn read_mark(file: &File) -> io::Result<Option<Mark>> {
    let mut mark = Mark::default();
    match file.read_exact_at(&mut mark, 0) {
        Ok(()) => Ok(Some(mark)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the exclusive lock of an existing file or directory, if it is free. If the owner always holds that lock,
/// success proves that the owner is gone.
pub(crate) fn try_lock_existing(path: &Path) -> Result<Option<Lock>, StoreError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Some(file) = optional(opened.map_err(StoreError::io("open", path)))? else { return Ok(None) };
    let Some(lock) = try_lock_open(file, Mode::Exclusive, path)? else { return Ok(None) };
    Ok(is_named(&lock.file, path)?.then_some(lock))
}

fn try_lock_open(file: File, mode: Mode, path: &Path) -> Result<Option<Lock>, StoreError> {
    let attempt = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match attempt {
        Ok(()) => Ok(Some(Lock { file, _held: None })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { action: "lock", path: path.to_path_buf(), source }),
    }
}

/// Whether `path` still leads to this file: between opening and locking, another file may have replaced it.
fn is_named(file: &File, path: &Path) -> Result<bool, StoreError> {
    let ours = file.metadata().map_err(StoreError::io("examine", path))?;
    let theirs = optional(fs::symlink_metadata(path).map_err(StoreError::io("examine", path)))?;
    Ok(theirs.is_some_and(|theirs| (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::error::Kind;
    use crate::store::fixture::impatient;

    fn locks() -> (tempfile::TempDir, Locks) {
        let place = tempfile::tempdir().unwrap();
        let locks = Locks::new(place.path().to_path_buf());
        (place, locks)
    }

    #[test]
    fn one_holds_an_exclusive_lock_and_many_a_shared_one() {
        let (_place, locks) = locks();
        let name = LockName::Snapshot("00".to_owned());
        let first = locks.try_acquire(&name, Mode::Shared).unwrap();
        let second = locks.try_acquire(&name, Mode::Shared).unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(locks.try_acquire(&name, Mode::Exclusive).unwrap().is_none());
        drop((first, second));
        let _only = locks.try_acquire(&name, Mode::Exclusive).unwrap().unwrap();
        assert!(locks.try_acquire(&name, Mode::Shared).unwrap().is_none());
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_says_what_it_waited_for() {
        let (_place, locks) = locks();
        let kinds =
            [(LockName::Target("00".to_owned()), Kind::Busy), (LockName::Repository("00".to_owned()), Kind::Timeout)];
        for (name, kind) in kinds {
            let _held = locks.try_acquire(&name, Mode::Exclusive).unwrap().unwrap();
            let error = locks.acquire(&name, Mode::Exclusive, &impatient()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let cancelled = Cancel::new();
            cancelled.cancel();
            assert_eq!(locks.acquire(&name, Mode::Exclusive, &cancelled).unwrap_err().kind(), Kind::Cancelled);
        }
    }

    #[test]
    fn r6_a_waiting_process_returns_without_the_lock_once_the_work_is_done() {
        let (_place, locks) = locks();
        let name = LockName::Repository("00".to_owned());
        let _held = locks.try_acquire(&name, Mode::Exclusive).unwrap().unwrap();
        let mut looks = 0;
        let done = || {
            looks += 1;
            Ok((looks == 3).then_some("snapshot"))
        };
        let turn = locks.acquire_unless(&name, Mode::Exclusive, &Cancel::new(), done).unwrap();
        assert!(matches!(turn, Turn::Done("snapshot")));
    }

    #[test]
    fn unused_lock_files_are_removed_and_used_or_wanted_ones_stay() {
        let (place, locks) = locks();
        let names = ["aa", "bb", "cc"].map(|hash| LockName::Target(hash.to_owned()));
        let [held, kept, unused] = names;
        let _held = locks.try_acquire(&held, Mode::Shared).unwrap();
        drop(locks.try_acquire(&kept, Mode::Exclusive).unwrap());
        drop(locks.try_acquire(&unused, Mode::Exclusive).unwrap());
        assert_eq!(locks.remove_unused(|name| name == Locks::target_file_name("bb")).unwrap(), 1);
        assert!(place.path().join("target-aa").exists());
        assert!(place.path().join("target-bb").exists());
        assert!(!place.path().join("target-cc").exists());
    }

    fn inode(file: &File) -> u64 {
        file.metadata().unwrap().ino()
    }

    #[test]
    fn a_sweep_of_lock_files_never_lets_two_hold_the_same_lock() {
        let (_place, locks) = locks();
        let name = LockName::Repository("00".to_owned());
        let (inside, working) = (AtomicUsize::new(0), AtomicBool::new(true));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while working.load(Ordering::Relaxed) {
                    locks.remove_unused(|_| false).unwrap();
                }
            });
            let workers = [(); 4].map(|()| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let watch = locks.watch_mark(&name, &Cancel::new()).unwrap();
                        let lock = locks.acquire(&name, Mode::Exclusive, &Cancel::new()).unwrap();
                        assert_eq!(inode(&lock.file), inode(&watch.file), "a watched file is the lock's");
                        drop(watch);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            });
            let results = workers.map(|worker| worker.join());
            working.store(false, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
    }
}
