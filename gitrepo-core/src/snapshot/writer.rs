//! Writes a listed tree into an empty directory, from several threads, each of which takes the next few entries of the
//! listing. The content comes out of the segments of the repository.

use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use git2::ObjectType;
use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::sys::stat::Mode;
use nix::sys::stat::UtimensatFlags;
use nix::sys::time::TimeSpec;

use super::SnapshotError;
use super::TreeRequest;
use super::Watch;
use super::beneath::Beneath;
use super::directory::ROOT;
use super::git_dir;
use super::mountable::assemble::Segments;
use super::mountable::assemble::check_target;
use super::mountable::listed::Extent;
use super::mountable::listed::Kind;
use super::mountable::listed::Listed;
use super::mountable::listed::Node;
use super::object;
use super::widen;
use crate::error::Cause;
use crate::progress::Step;
use crate::reserve::Reserve;

/// Entries per share: enough that a thread seldom changes directories, few enough that none waits for a slow thread.
const SHARE: usize = 64;

/// Bytes of a blob in memory at once.
const PIECE: usize = 1 << 20;

/// One write, shared by its threads.
pub(crate) struct Writer<'a> {
    request: &'a TreeRequest,
    watch: &'a Watch,
    listed: &'a Listed,
    segments: &'a Segments,
    /// The files and links, as indexes into the list.
    entries: Vec<usize>,
    root: Beneath,
    /// Whether the umask clears bits that a mode needs.
    is_masked: bool,
    /// Set by the first thread that fails.
    is_failed: AtomicBool,
    meter: Meter,
    reserve: Mutex<Reserve>,
}

impl<'a> Writer<'a> {
    /// A writer into `root`, which it creates in the directory `staging`.
    pub(crate) fn new(
        listed: &'a Listed,
        segments: &'a Segments,
        request: &'a TreeRequest,
        (watch, reserve): (&'a Watch, Reserve),
        staging: &Beneath,
    ) -> Result<Self, SnapshotError> {
        let (root, is_masked) =
            make_root(staging).map_err(|error| SnapshotError::io("create directory", ROOT.to_bytes(), error))?;
        let is_entry = |at: &usize| !matches!(listed.nodes[*at].kind, Kind::Directory);
        let entries: Vec<_> = (0..listed.nodes.len()).filter(is_entry).collect();
        let meter = Meter::new(entries.len());
        let is_failed = AtomicBool::new(false);
        let reserve = Mutex::new(reserve);
        Ok(Self { request, watch, listed, segments, entries, root, is_masked, is_failed, meter, reserve })
    }

    /// Writes everything. The caller keeps or removes the result, also after a failure.
    pub(crate) fn write(&self) -> Result<(), SnapshotError> {
        self.make_directories()?;
        self.write_entries()?;
        self.meter.report(self.watch);
        self.set_directory_times()
    }

    fn directories(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        let nodes = self.listed.nodes.iter().enumerate();
        nodes.filter(|(_, node)| matches!(node.kind, Kind::Directory))
    }

    fn make_directories(&self) -> Result<(), SnapshotError> {
        let mut parent = OpenDirectory::default();
        for (_, node) in self.directories() {
            self.check_wanted()?;
            let name = self.listed.name(node);
            let inside = parent.enter(self, node.parent)?;
            let made = stat::mkdirat(inside, name, Mode::from_bits_truncate(0o755)).and_then(|()| {
                // No other process is here, and what we created is not a link.
                if !self.is_masked {
                    return Ok(());
                }
                let follow = stat::FchmodatFlags::FollowSymlink;
                stat::fchmodat(inside, name, Mode::from_bits_truncate(0o755), follow)
            });
            made.map_err(|error| self.failed("create directory", node, error))?;
        }
        Ok(())
    }

    fn write_entries(&self) -> Result<(), SnapshotError> {
        self.share_entries(|shares| {
            let mut place = OpenDirectory::default();
            let mut piece = vec![0; PIECE];
            for at in shares.flatten() {
                let node = &self.listed.nodes[self.entries[at]];
                self.check_wanted()?;
                let directory = place.enter(self, node.parent)?;
                let bytes = match &node.kind {
                    Kind::Directory => continue,
                    Kind::Symlink { target } => {
                        self.write_symlink(node, target, directory)?;
                        target.size
                    }
                    Kind::Written { number, size } => {
                        self.write_ours(node, &self.listed.written[*number], directory)?;
                        *size
                    }
                    Kind::File { executable, content } => {
                        let mode = Mode::from_bits_truncate(if *executable { 0o755 } else { 0o644 });
                        self.write_file(node, content, mode, directory, &mut piece)?;
                        content.size
                    }
                };
                self.meter.add(bytes, self.watch);
            }
            Ok(())
        })
    }

    /// Writes a file piece by piece, and verifies at the end that its content is what its id says.
    fn write_file(
        &self,
        node: &Node,
        content: &Extent,
        mode: Mode,
        directory: BorrowedFd<'_>,
        piece: &mut [u8],
    ) -> Result<(), SnapshotError> {
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let created = fcntl::openat(directory, self.listed.name(node), new, mode).map(File::from);
        let mut file = created.map_err(|error| self.failed("create", node, error))?;
        let mut hash = object::Hash::new(ObjectType::Blob, content.size);
        let mut done = 0;
        while done < content.size {
            self.check_wanted()?;
            let length = piece.len().min(usize::try_from(content.size - done).unwrap_or(usize::MAX));
            let piece = &mut piece[..length];
            self.read(node, content, piece, done)?;
            hash.update(piece);
            file.write_all(piece).map_err(|error| self.failed("write", node, error))?;
            done += widen(length);
        }
        if !hash.is(content.id) {
            return Err(self.damaged(content));
        }
        let masked = if self.is_masked { stat::fchmod(&file, mode) } else { Ok(()) };
        masked
            .and_then(|()| stat::futimens(&file, &TimeSpec::UTIME_OMIT, &self.time()))
            .map_err(|error| self.failed("write", node, error))
    }

    /// Writes a file of `.git` whose content is ours.
    fn write_ours(&self, node: &Node, content: &[u8], directory: BorrowedFd<'_>) -> Result<(), SnapshotError> {
        let mode = Mode::from_bits_truncate(0o644);
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let created = fcntl::openat(directory, self.listed.name(node), new, mode).map(File::from);
        let mut file = created.map_err(|error| self.failed("create", node, error))?;
        file.write_all(content).map_err(|error| self.failed("write", node, error))?;
        let time = git_dir::time_of(self.listed, node).unwrap_or(self.listed.time);
        let masked = if self.is_masked { stat::fchmod(&file, mode) } else { Ok(()) };
        masked
            .and_then(|()| stat::futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(time, 0)))
            .map_err(|error| self.failed("write", node, error))
    }

    fn write_symlink(&self, node: &Node, content: &Extent, directory: BorrowedFd<'_>) -> Result<(), SnapshotError> {
        // It has at most 4095 bytes.
        let mut target = vec![0; usize::try_from(content.size).unwrap_or_default()];
        self.read(node, content, &mut target, 0)?;
        let mut hash = object::Hash::new(ObjectType::Blob, content.size);
        hash.update(&target);
        if !hash.is(content.id) {
            return Err(self.damaged(content));
        }
        check_target(self.listed, node, &target, self.request)?;
        let name = self.listed.name(node);
        nix::unistd::symlinkat(&*target, directory, name)
            .and_then(|()| {
                let at = UtimensatFlags::NoFollowSymlink;
                stat::utimensat(directory, name, &TimeSpec::UTIME_OMIT, &self.time(), at)
            })
            .map_err(|error| self.failed("create link", node, error))
    }

    /// Reads a part of a blob. Only a segment that is too short is damaged: another error may pass.
    fn read(&self, node: &Node, content: &Extent, into: &mut [u8], offset: u64) -> Result<(), SnapshotError> {
        self.segments.read_exact_at(content, into, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.incomplete(format_args!("object {}: {error}", content.id)),
            _ => self.failed("read the content of", node, error),
        })
    }

    /// Done last, since every new entry changes a directory's time.
    fn set_directory_times(&self) -> Result<(), SnapshotError> {
        let all = [None].into_iter().chain(self.directories().map(|(at, _)| Some(at)));
        for directory in all {
            self.check_wanted()?;
            let opened = self.open_directory(directory)?;
            stat::futimens(&opened, &TimeSpec::UTIME_OMIT, &self.time())
                .map_err(|error| SnapshotError::io("set time of", &self.path(directory), error))?;
        }
        Ok(())
    }

    /// Runs `work` on several threads, each with an iterator over its shares of the entries.
    fn share_entries(
        &self,
        work: impl Fn(&mut dyn Iterator<Item = std::ops::Range<usize>>) -> Result<(), SnapshotError> + Sync,
    ) -> Result<(), SnapshotError> {
        let next = AtomicUsize::new(0);
        let entries = self.entries.len();
        let shares = || {
            let start = next.fetch_add(SHARE, Ordering::Relaxed);
            (start < entries && !self.is_failed.load(Ordering::Relaxed)).then(|| start..entries.min(start + SHARE))
        };
        let run = || work(&mut std::iter::from_fn(shares));
        let run = || run().inspect_err(|_| self.is_failed.store(true, Ordering::Relaxed));
        let others =
            thread::available_parallelism().map_or(1, usize::from).clamp(2, 8).min(entries.div_ceil(SHARE)).max(1) - 1;
        thread::scope(|scope| {
            // If a thread cannot be started, the others do its work.
            let others: Vec<_> = (0..others)
                .filter_map(|_| thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, run).ok())
                .collect();
            let ours = run();
            others.into_iter().fold(ours, |result, other| {
                result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }

    /// Opens a directory of the list, or the root.
    fn open_directory(&self, directory: Option<usize>) -> Result<OwnedFd, SnapshotError> {
        let path = self.path(directory);
        let opened = CString::new(path.clone()).map_err(|_| Errno::EINVAL).and_then(|path| self.root.open(&path));
        opened.map_err(|error| SnapshotError::io("open", &path, error))
    }

    fn path(&self, directory: Option<usize>) -> Vec<u8> {
        directory.map_or(Vec::new(), |at| self.listed.path(&self.listed.nodes[at]))
    }

    fn time(&self) -> TimeSpec {
        TimeSpec::new(self.listed.time, 0)
    }

    fn failed(&self, action: &str, node: &Node, error: impl Into<std::io::Error>) -> SnapshotError {
        SnapshotError::io(action, &self.listed.path(node), error)
    }

    fn damaged(&self, content: &Extent) -> SnapshotError {
        self.incomplete(format_args!("object {} is damaged", content.id))
    }

    fn check_wanted(&self) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        self.watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })?;
        // If the lock is taken, its holder checks.
        match self.reserve.try_lock() {
            Ok(mut reserve) => reserve.check().map_err(|error| SnapshotError::no_room(b"root", &error)),
            Err(_) => Ok(()),
        }
    }

    fn incomplete(&self, what: std::fmt::Arguments<'_>) -> SnapshotError {
        SnapshotError::Incomplete { commit: self.request.commit, source: Cause::new(what) }
    }
}

/// Creates the volume's root and finds out whether new files get other modes than requested, because of the umask, a
/// default ACL or a set-gid directory.
fn make_root(staging: &Beneath) -> Result<(Beneath, bool), Errno> {
    let mode = Mode::from_bits_truncate(0o755);
    stat::mkdirat(staging, ROOT, mode)?;
    let root = staging.beneath(ROOT)?;
    let is_masked = stat::fstat(&root)?.st_mode & 0o7777 != mode.bits();
    if is_masked {
        stat::fchmod(&root, mode)?;
    }
    Ok((root, is_masked))
}

/// The current directory of a thread: one descriptor at a time, however deep the tree.
#[derive(Default)]
struct OpenDirectory(Option<(Option<usize>, OwnedFd)>);

impl OpenDirectory {
    fn enter(&mut self, writer: &Writer<'_>, directory: Option<usize>) -> Result<BorrowedFd<'_>, SnapshotError> {
        let here = match self.0.take() {
            Some((index, opened)) if index == directory => opened,
            _ => writer.open_directory(directory)?,
        };
        Ok(self.0.insert((directory, here)).1.as_fd())
    }
}

/// Progress so far, and when it was last reported.
struct Meter {
    total: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
    told: Mutex<Instant>,
}

impl Meter {
    /// Shortest time between two reports.
    const PAUSE: Duration = Duration::from_millis(100);

    fn new(total: usize) -> Self {
        let (entries, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { total: widen(total), entries, bytes, told: Mutex::new(Instant::now()) }
    }

    fn add(&self, bytes: u64, watch: &Watch) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // If the lock is taken, its holder reports.
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= Self::PAUSE
        {
            *told = Instant::now();
            self.report(watch);
        }
    }

    fn report(&self, watch: &Watch) {
        watch.progress.report(&Step::Writing {
            entries: self.entries.load(Ordering::Relaxed),
            total_entries: self.total,
            bytes: self.bytes.load(Ordering::Relaxed),
        });
    }
}
