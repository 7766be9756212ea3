//! Writes a listed tree into an empty directory, from several threads, each of which takes the next few entries of the
//! listing. The content comes out of the segments of the repository.

use std::fs::File;
use std::io::Read;
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
use super::TreeSummary;
use super::Watch;
use super::beneath::Beneath;
use super::directory::ROOT;
use super::listing::Entry;
use super::listing::Listing;
use super::located::Located;
use super::object;
use super::widen;
use crate::content::Extent;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::progress::Step;

/// Entries per share: enough that a thread seldom changes directories, few enough that none waits for a slow thread.
const SHARE: usize = 64;

/// Bytes of a blob in memory at once.
const PIECE: usize = 1 << 20;

/// One write, shared by its threads.
pub(crate) struct Writer<'a> {
    request: &'a TreeRequest,
    watch: &'a Watch,
    listing: &'a Listing,
    located: &'a Located<'a>,
    root: Beneath,
    /// Whether the umask clears bits that a mode needs.
    is_masked: bool,
    /// Set by the first thread that fails.
    is_failed: AtomicBool,
    meter: Meter,
}

impl<'a> Writer<'a> {
    /// A writer into `root`, which it creates in the empty directory `staging`.
    pub(crate) fn new(located: &'a Located<'a>, watch: &'a Watch, staging: &Beneath) -> Result<Self, SnapshotError> {
        let (root, is_masked) =
            make_root(staging).map_err(|error| SnapshotError::io("create directory", ROOT.to_bytes(), error))?;
        let Located { request, listing, .. } = *located;
        let meter = Meter::new(listing.entries.iter().filter(|entry| entry.mode != EntryMode::Submodule).count());
        Ok(Self { request, watch, listing, located, root, is_masked, is_failed: AtomicBool::new(false), meter })
    }

    /// Writes everything. The caller keeps or removes the result, also after a failure.
    pub(crate) fn write(&self) -> Result<TreeSummary, SnapshotError> {
        self.make_directories()?;
        self.write_entries()?;
        self.meter.report(self.watch);
        self.set_directory_times()?;
        Ok(self.located.summary())
    }

    fn make_directories(&self) -> Result<(), SnapshotError> {
        let mut parent = OpenDirectory::default();
        for (index, directory) in self.listing.directories.iter().enumerate().skip(1) {
            self.check_wanted()?;
            let name = self.listing.directory_name(directory);
            let inside = parent.enter(self, directory.parent)?;
            let made = stat::mkdirat(inside, name, Mode::from_bits_truncate(0o755)).and_then(|()| {
                // No other process is here, and what we created is not a link.
                if !self.is_masked {
                    return Ok(());
                }
                let follow = stat::FchmodatFlags::FollowSymlink;
                stat::fchmodat(inside, name, Mode::from_bits_truncate(0o755), follow)
            });
            made.map_err(|error| {
                SnapshotError::io("create directory", self.listing.directory_path(index).to_bytes(), error)
            })?;
        }
        Ok(())
    }

    fn write_entries(&self) -> Result<(), SnapshotError> {
        self.share_entries(|shares| {
            let mut place = OpenDirectory::default();
            let mut piece = vec![0; PIECE];
            for index in shares.flatten() {
                let entry = &self.listing.entries[index];
                let Some(extent) = self.located.extents[index] else { continue };
                self.check_wanted()?;
                let directory = place.enter(self, entry.directory)?;
                self.write_entry(entry, extent, directory, &mut piece)?;
                self.meter.add(extent.length, self.watch);
            }
            Ok(())
        })
    }

    fn write_entry(
        &self,
        entry: &Entry,
        extent: Extent,
        directory: BorrowedFd<'_>,
        piece: &mut [u8],
    ) -> Result<(), SnapshotError> {
        if entry.mode == EntryMode::Symlink {
            self.located.check_target_length(entry, extent.length)?;
            let mut target = Vec::new();
            self.copy(entry, extent, piece, |piece| {
                target.extend_from_slice(piece);
                Ok(())
            })?;
            return self.write_symlink(entry, &target, directory);
        }
        let mode = Mode::from_bits_truncate(if entry.mode == EntryMode::Executable { 0o755 } else { 0o644 });
        let mut file = self.create_file(entry, mode, directory)?;
        self.copy(entry, extent, piece, |piece| file.write_all(piece).map_err(|error| self.unwritten(entry, error)))?;
        self.finish_file(entry, &file, mode)
    }

    /// Passes on the content of an entry piece by piece, and verifies at the end that it is what its id says.
    fn copy(
        &self,
        entry: &Entry,
        extent: Extent,
        piece: &mut [u8],
        mut pass_on: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut content = self.located.segments.read(extent);
        let mut hash = object::Hash::new(ObjectType::Blob, extent.length);
        loop {
            self.check_wanted()?;
            let read = content.read(piece);
            match read.map_err(|error| self.incomplete(format_args!("object {}: {error}", entry.id)))? {
                0 => break,
                length => {
                    hash.update(&piece[..length]);
                    pass_on(&piece[..length])?;
                }
            }
        }
        if hash.is(entry.id) {
            return Ok(());
        }
        Err(self.incomplete(format_args!("object {} is damaged", entry.id)))
    }

    fn create_file(&self, entry: &Entry, mode: Mode, directory: BorrowedFd<'_>) -> Result<File, SnapshotError> {
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let name = self.listing.entry_name(entry);
        fcntl::openat(directory, name, new, mode).map(File::from).map_err(|error| self.unwritten(entry, error))
    }

    fn finish_file(&self, entry: &Entry, file: &File, mode: Mode) -> Result<(), SnapshotError> {
        let masked = if self.is_masked { stat::fchmod(file, mode) } else { Ok(()) };
        masked
            .and_then(|()| stat::futimens(file, &TimeSpec::UTIME_OMIT, &self.time()))
            .map_err(|error| self.unwritten(entry, error))
    }

    fn unwritten(&self, entry: &Entry, error: impl Into<std::io::Error>) -> SnapshotError {
        SnapshotError::io("write", &self.listing.path(entry), error)
    }

    fn write_symlink(&self, entry: &Entry, target: &[u8], directory: BorrowedFd<'_>) -> Result<(), SnapshotError> {
        self.located.check_target(entry, target)?;
        let name = self.listing.entry_name(entry);
        nix::unistd::symlinkat(target, directory, name)
            .and_then(|()| {
                let at = UtimensatFlags::NoFollowSymlink;
                stat::utimensat(directory, name, &TimeSpec::UTIME_OMIT, &self.time(), at)
            })
            .map_err(|error| SnapshotError::io("create link", &self.listing.path(entry), error))
    }

    /// Done last, since every new entry changes a directory's time.
    fn set_directory_times(&self) -> Result<(), SnapshotError> {
        for index in 0..self.listing.directories.len() {
            self.check_wanted()?;
            let opened = self.open_directory(index)?;
            stat::futimens(&opened, &TimeSpec::UTIME_OMIT, &self.time()).map_err(|error| {
                SnapshotError::io("set time of", self.listing.directory_path(index).to_bytes(), error)
            })?;
        }
        Ok(())
    }

    /// Runs `work` on several threads, each with an iterator over its shares of the entries.
    fn share_entries(
        &self,
        work: impl Fn(&mut dyn Iterator<Item = std::ops::Range<usize>>) -> Result<(), SnapshotError> + Sync,
    ) -> Result<(), SnapshotError> {
        let next = AtomicUsize::new(0);
        let entries = self.listing.entries.len();
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

    fn open_directory(&self, index: usize) -> Result<OwnedFd, SnapshotError> {
        let path = self.listing.directory_path(index);
        self.root.open(&path).map_err(|error| SnapshotError::io("open", path.to_bytes(), error))
    }

    fn time(&self) -> TimeSpec {
        TimeSpec::new(self.listing.time, 0)
    }

    fn check_wanted(&self) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        self.watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })
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
struct OpenDirectory(Option<(usize, OwnedFd)>);

impl OpenDirectory {
    fn enter(&mut self, writer: &Writer<'_>, directory: usize) -> Result<BorrowedFd<'_>, SnapshotError> {
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
