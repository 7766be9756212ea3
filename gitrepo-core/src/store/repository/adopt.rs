//! Moves a worker's fetch into the store: segments, packs, the shallow boundary and one ref, each checked.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::fcntl::openat;
use nix::fcntl::renameat;
use nix::sys::stat::Mode;
use nix::sys::stat::fstatat;
use nix::unistd::Gid;
use nix::unistd::Uid;
use nix::unistd::fchown;

use crate::content;
use crate::digest::is_hex;
use crate::lfs;
use crate::pack::MOST_PACKS;
use crate::snapshot::Owner;
use crate::spec::CommitId;
use crate::store::durable;
use crate::store::durable::Durability;
use crate::store::durable::Readers;
use crate::store::error::StoreError;
use crate::store::error::optional;
use crate::store::layout::Layout;
use crate::store::staging::Staging;
use crate::store::trash::Deletion;

use super::commit_ref;

pub(super) const PACKS: &str = "objects/pack";
pub(super) const COMMITS: &str = "refs/commits";
pub(super) const SHALLOW: &str = "shallow";

/// Present when a repository builds on another one.
const ALTERNATES: &str = "objects/info/alternates";

/// Maximum number of refs read from a worker's repository.
const MOST_COMMITS: usize = 16;

/// Most segments that a fetch brings: one with each pack, those with objects of Git LFS, and one of files that were
/// converted.
const MOST_SEGMENTS: usize = MOST_PACKS + lfs::MOST_SEGMENTS + 1;

/// Size limit of a `shallow` file, for [`MOST_BOUNDARIES`](crate::pack::MOST_BOUNDARIES) commits.
const SHALLOW_LIMIT: u64 = 16 * 1024 * 1024;

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
const HEAD: &str = "ref: refs/heads/main\n";

/// Whether a fetch brought nothing.
pub(super) fn is_empty(fetched: &Path) -> Result<bool, StoreError> {
    let fetched = Fetched::open(fetched)?;
    Ok(fetched.names_of(&HISTORY)?.is_empty() && fetched.names_of(&SEGMENTS)?.is_empty())
}

/// Whether a fetch builds on a repository. One that compacted it does not.
pub(super) fn builds_on_base(fetched: &Path) -> Result<bool, StoreError> {
    Fetched::open(fetched)?.builds_on_base()
}

/// Adds a fetch that built on a repository to that repository.
///
/// A commit counts as whole only with its ref, which is written last, and which a narrow fetch does not have. Trees and
/// blobs count as soon as they are there. So segments come before the history, and what a tree of one pack leads to is in
/// that pack, in a segment that came before it, or was there. The boundary is written whole, because the fetch began with a
/// copy of ours, and a deeper fetch removes commits from it.
pub(super) fn extend(
    repository: &Path,
    fetched: &Path,
    commit: Option<&CommitId>,
    owner: Owner,
) -> Result<(), StoreError> {
    let fetched = Fetched::open(fetched)?;
    // What has its name in the repository must not be lost or torn by a power failure.
    fetched.sync_pairs(PAIRS)?;
    fetched.move_pairs(PAIRS, repository, owner)?;
    for pairs in PAIRS {
        durable::sync_directory(&repository.join(pairs.directory))?;
    }
    write_list(repository, SHALLOW, fetched.shallow()?.as_deref(), Durability::Durable)?;
    write_list(repository, lfs::KNOWN, fetched.lfs()?.as_deref(), Durability::Durable)?;
    commit.map_or(Ok(()), |commit| write_ref(repository, commit, Durability::Durable))
}

/// Adds only the segments of a fetch that built on a repository, and which objects of Git LFS are in them. They need no ref:
/// a tree leads to them.
pub(super) fn extend_objects(repository: &Path, fetched: &Path, owner: Owner) -> Result<(), StoreError> {
    let fetched = Fetched::open(fetched)?;
    fetched.sync_pairs([&SEGMENTS])?;
    fetched.move_pairs([&SEGMENTS], repository, owner)?;
    durable::sync_directory(&repository.join(SEGMENTS.directory))?;
    write_list(repository, lfs::KNOWN, fetched.lfs()?.as_deref(), Durability::Durable)
}

/// Makes a repository from a fetch, and replaces the old one with it.
pub(super) fn replace(
    layout: &Arc<Layout>,
    repository: &Path,
    fetched: &Path,
    commit: Option<&CommitId>,
    owner: Owner,
) -> Result<(), StoreError> {
    let staging = Staging::create(layout)?;
    let fresh = staging.path().join("repository");
    make(&fresh, fetched, commit, owner)?;
    durable::sync_trees(std::slice::from_ref(&fresh))?;
    layout.trash.discard(repository, Deletion::Now)?;
    durable::rename(&fresh, repository)
}

/// Makes a repository from a fetch that builds on none.
pub(super) fn make(
    repository: &Path,
    fetched: &Path,
    commit: Option<&CommitId>,
    owner: Owner,
) -> Result<(), StoreError> {
    let fetched = Fetched::open(fetched)?;
    make_bare(repository)?;
    fetched.move_pairs(PAIRS_TAKEN, repository, owner)?;
    write_list(repository, SHALLOW, fetched.shallow()?.as_deref(), Durability::Volatile)?;
    write_list(repository, lfs::KNOWN, fetched.lfs()?.as_deref(), Durability::Volatile)?;
    commit.map_or(Ok(()), |commit| write_ref(repository, commit, Durability::Volatile))
}

/// Makes an empty bare repository, as git does from an empty template. A worker with another uid must be able to read
/// it; the directory above keeps everybody else out.
fn make_bare(repository: &Path) -> Result<(), StoreError> {
    for directory in ["", "objects", "objects/info", PACKS, content::DIRECTORY, "refs", COMMITS] {
        let path = repository.join(directory);
        DirBuilder::new().create(&path).map_err(StoreError::io("create", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(StoreError::io("change the mode of", &path))?;
    }
    for (name, content) in [("config", CONFIG), ("HEAD", HEAD)] {
        durable::replace_for(Readers::Everyone, &repository.join(name), content.as_bytes(), Durability::Volatile)?;
    }
    Ok(())
}

fn write_list(repository: &Path, name: &str, lines: Option<&[u8]>, durability: Durability) -> Result<(), StoreError> {
    let path = repository.join(name);
    match lines {
        Some(lines) => durable::replace_for(Readers::Everyone, &path, lines, durability),
        None => optional(fs::remove_file(&path).map_err(StoreError::io("delete", &path))).map(drop),
    }
}

fn write_ref(repository: &Path, commit: &CommitId, durability: Durability) -> Result<(), StoreError> {
    let path = repository.join(commit_ref(commit));
    durable::replace_for(Readers::Everyone, &path, format!("{commit}\n").as_bytes(), durability)
}

/// A kind of file of which a fetch brings pairs: a directory, the beginning of a name before a hash, and the ends of the
/// two names. The second one makes the first one visible, and comes last.
pub(super) struct Pairs {
    pub(super) directory: &'static str,
    prefix: &'static str,
    pub(super) ends: [&'static str; 2],
    /// Most pairs that a fetch brings.
    most: usize,
}

/// The packs with commits, trees and tags, and their indexes.
pub(super) const HISTORY: Pairs = Pairs { directory: PACKS, prefix: "pack-", ends: ["pack", "idx"], most: MOST_PACKS };

/// The segments with blobs, and their indexes.
pub(super) const SEGMENTS: Pairs = Pairs {
    directory: content::DIRECTORY,
    prefix: content::PREFIX,
    ends: [content::CONTENT, content::INDEX],
    most: MOST_SEGMENTS,
};

/// All of them, in the order in which a repository gets them: the history, which leads to the blobs, comes last.
pub(super) const PAIRS: [&Pairs; 2] = [&SEGMENTS, &HISTORY];

/// All of them, in the order in which a fetch loses them: without its history, nothing of it is kept after a kill.
pub(super) const PAIRS_TAKEN: [&Pairs; 2] = [&HISTORY, &SEGMENTS];

impl Pairs {
    /// The common beginning of the names of a pair, if `name` is that of its index.
    pub(super) fn stem_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let stem = name.strip_suffix(self.ends[1])?.strip_suffix('.')?;
        stem.strip_prefix(self.prefix).is_some_and(|hash| is_hex(hash, 40)).then_some(stem)
    }
}

/// A worker's output. Every path component is opened without following links.
pub(super) struct Fetched {
    path: PathBuf,
    top: OwnedFd,
}

impl Fetched {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let top = open_directory(AT_FDCWD, path, path)?;
        let fetched = Self { path: path.to_path_buf(), top };
        for pairs in PAIRS {
            fetched.directory(pairs)?;
        }
        Ok(fetched)
    }

    /// Moves the finished segments and packs into a repository, each before its index.
    pub(super) fn move_pairs<const N: usize>(
        &self,
        order: [&Pairs; N],
        to: &Path,
        owner: Owner,
    ) -> Result<(), StoreError> {
        for pairs in order {
            let directory = self.directory(pairs)?;
            let names = self.names_of(pairs)?;
            if names.len() > pairs.most {
                return Err(StoreError::Untrusted {
                    path: self.path.clone(),
                    reason: "a fetch does not bring so many files",
                });
            }
            for name in names {
                for end in pairs.ends {
                    self.move_file(pairs, &directory, &format!("{name}.{end}"), to, owner)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the content of the finished segments and packs durable, by descriptors: a path may lead elsewhere.
    fn sync_pairs<const N: usize>(&self, order: [&Pairs; N]) -> Result<(), StoreError> {
        let mut files = Vec::new();
        for pairs in order {
            let directory = self.directory(pairs)?;
            for name in self.names_of(pairs)?.into_iter().take(pairs.most) {
                for end in pairs.ends {
                    let name = format!("{name}.{end}");
                    let path = self.path.join(pairs.directory).join(&name);
                    // One that is missing is refused when it is moved.
                    files.extend(open_file(directory.as_fd(), &name, &path)?.map(|file| (path, file)));
                }
            }
        }
        durable::sync_files(&files)
    }

    /// Lists the pairs that have an index. Any other file is unfinished or not ours, and stays.
    pub(super) fn names_of(&self, pairs: &Pairs) -> Result<Vec<String>, StoreError> {
        let directory = self.directory(pairs)?;
        let mut names = self.names_in(directory.as_fd(), |name| pairs.stem_of(name).map(str::to_owned))?;
        names.sort_unstable();
        Ok(names)
    }

    fn directory(&self, pairs: &Pairs) -> Result<OwnedFd, StoreError> {
        let mut directory = self.top.try_clone().map_err(StoreError::io("open", &self.path))?;
        for name in pairs.directory.split('/') {
            directory = open_directory(directory.as_fd(), Path::new(name), &self.path)?;
        }
        Ok(directory)
    }

    /// Returns the commits that the worker claims to have fetched, from the names of their refs; at most
    /// [`MOST_COMMITS`].
    pub(super) fn commits(&self) -> Result<Vec<CommitId>, StoreError> {
        let mut directory = None;
        for name in COMMITS.split('/') {
            let parent = directory.as_ref().unwrap_or(&self.top);
            match open_directory(parent.as_fd(), Path::new(name), &self.path) {
                Ok(found) => directory = Some(found),
                Err(StoreError::Untrusted { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        let directory = directory.as_ref().unwrap_or(&self.top);
        let mut commits = self.names_in(directory.as_fd(), |name| CommitId::parse(name).ok())?;
        commits.truncate(MOST_COMMITS);
        Ok(commits)
    }

    /// Whether the fetch began with the store's objects. A false answer harms no more than the repository of its URL, which
    /// all tenants share: what it lacks is fetched again.
    pub(super) fn builds_on_base(&self) -> Result<bool, StoreError> {
        match fstatat(&self.top, ALTERNATES, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(StoreError::io("examine", &self.path)(errno)),
        }
    }

    fn names_in<T>(&self, directory: BorrowedFd<'_>, wanted: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, StoreError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let list = || StoreError::io("list", &self.path);
        let mut names = Vec::new();
        for entry in Dir::openat(directory, ".", flags, Mode::empty()).map_err(list())?.iter() {
            let entry = entry.map_err(list())?;
            names.extend(entry.file_name().to_str().ok().and_then(&wanted));
        }
        Ok(names)
    }

    fn move_file(
        &self,
        pairs: &Pairs,
        directory: &OwnedFd,
        name: &str,
        to: &Path,
        owner: Owner,
    ) -> Result<(), StoreError> {
        let path = self.path.join(pairs.directory).join(name);
        let target = to.join(pairs.directory).join(name);
        if target.exists() {
            // The name is a hash of the content.
            return Ok(());
        }
        let file = open_file(directory.as_fd(), name, &path)?
            .ok_or(StoreError::Untrusted { path: path.clone(), reason: "an index has no content" })?;
        fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(StoreError::io("take ownership of", &path))?;
        file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(StoreError::io("change the mode of", &path))?;
        renameat(directory, name, AT_FDCWD, &target).map_err(StoreError::io("move", &path))
    }

    /// Reads the commits whose parents were not fetched; `None` if there are none.
    pub(super) fn shallow(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.list(SHALLOW, SHALLOW_LIMIT, is_commit_line, "it is not a list of commits")
    }

    /// Reads which objects of Git LFS are in the segments; `None` if there are none.
    pub(super) fn lfs(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.list(lfs::KNOWN, lfs::LONGEST_KNOWN, lfs::is_known_line, "it is not a list of objects")
    }

    fn list(
        &self,
        name: &str,
        limit: u64,
        is_line: impl Fn(&[u8]) -> bool,
        reason: &'static str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path.join(name);
        let Some(file) = open_file(self.top.as_fd(), name, &path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content).map_err(StoreError::io("read", &path))?;
        let Some(lines) = content.strip_suffix(b"\n").filter(|_| content.len() as u64 <= limit) else {
            return if content.is_empty() { Ok(None) } else { Err(StoreError::Untrusted { path, reason }) };
        };
        match lines.split(|byte| *byte == b'\n').all(is_line) {
            true => Ok(Some(content)),
            false => Err(StoreError::Untrusted { path, reason }),
        }
    }
}

fn is_commit_line(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|id| is_hex(id, 40))
}

fn open_directory(parent: BorrowedFd<'_>, name: &Path, message_path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    openat(parent, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT => {
            StoreError::Untrusted { path: message_path.to_path_buf(), reason: "it is not a bare repository" }
        }
        errno => StoreError::io("open", message_path)(errno),
    })
}

/// Opens a plain file with one hard link: no symlink, pipe or device, and no second name to change it through later.
fn open_file(directory: BorrowedFd<'_>, name: &str, message_path: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP | Errno::ENXIO) => {
            return Err(StoreError::Untrusted { path: message_path.to_path_buf(), reason: "it is not a regular file" });
        }
        Err(errno) => return Err(StoreError::io("open", message_path)(errno)),
    };
    let metadata = file.metadata().map_err(StoreError::io("examine", message_path))?;
    let reason = match (metadata.is_file(), metadata.nlink()) {
        (true, 1) => return Ok(Some(file)),
        (true, _) => "it has more than one name",
        (false, _) => "it is not a regular file",
    };
    Err(StoreError::Untrusted { path: message_path.to_path_buf(), reason })
}
