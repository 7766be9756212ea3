//! Adopts a worker's output: the parent checks everything itself, once the worker is gone.
//!
//! By then no other process can reach the staging directory, so the checked content cannot change.

use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::sys::stat::Mode;
use nix::unistd;
use nix::unistd::Gid;
use nix::unistd::Uid;

use super::Owner;
use super::SnapshotError;
use super::TreeRequest;
use super::TreeSummary;
use super::beneath::Beneath;
use super::beneath::join;
use super::directory::ROOT;
use super::manifest;
use super::symlink;
use super::walk;
use super::walk::FileType;
use super::walk::Found;
use super::walk::Visitor;
use super::widen;
use crate::spec::Symlinks;
use crate::spec::names;

/// Checks `staging`, counts its content and gives it to `owner`.
pub(crate) fn adopt(staging: &Path, request: &TreeRequest, owner: Owner) -> Result<TreeSummary, SnapshotError> {
    let staging = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
    let device = stat::fstat(&staging).map_err(|error| SnapshotError::io("examine", b"", error))?.st_dev;
    let mut adoption = Adoption { request, owner, device, summary: TreeSummary::default(), manifest_size: None };
    walk::walk(&staging, &mut adoption)?;
    let Adoption { summary, manifest_size, .. } = adoption;
    check_directory(&staging, request)?;
    let size = manifest_size.ok_or_else(|| untrusted(manifest::NAME.as_bytes(), "it is missing"))?;
    check_manifest(&staging, request, size, &summary)?;
    Ok(summary)
}

struct Adoption<'a> {
    request: &'a TreeRequest,
    owner: Owner,
    device: u64,
    summary: TreeSummary,
    manifest_size: Option<u64>,
}

impl Visitor for Adoption<'_> {
    type Error = SnapshotError;

    fn visit(&mut self, found: &Found<'_>) -> Result<(), SnapshotError> {
        let path = found.path.to_bytes();
        check_entry(found, self.device).map_err(|reason| untrusted(path, reason))?;
        match (found.depth, found.file_type()) {
            (1, FileType::Directory) if found.name == ROOT => {}
            (1, FileType::Regular) if path == manifest::NAME.as_bytes() => self.manifest_size = Some(found.size()),
            (1, _) => return Err(untrusted(path, "it does not belong there")),
            _ => self.count(found)?,
        }
        self.own(found).map_err(|error| SnapshotError::io("take ownership of", path, error))
    }

    fn failed(&self, action: &'static str, path: &CStr, error: Errno) -> SnapshotError {
        SnapshotError::io(action, path.to_bytes(), error)
    }
}

impl Adoption<'_> {
    /// Counts an entry of the tree against the limits. An honest worker has already enforced them.
    fn count(&mut self, found: &Found<'_>) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        let limits = &self.request.limits;
        let path = found.path.to_bytes();
        let is_link = found.file_type() == FileType::Symlink;
        names::check(found.name.to_bytes(), is_link).map_err(|error| untrusted(path, &error.to_string()))?;
        found.count_into(&mut self.summary);
        let over = |count: u64, limit: u64, what: &str, setting: &str| {
            if count > limit { Err(SnapshotError::too_large(commit, what, limit, setting)) } else { Ok(()) }
        };
        // The volume's paths start below `root/`.
        let length = path.len() - ROOT.count_bytes() - 1;
        let nested = found.depth - if found.file_type() == FileType::Directory { 1 } else { 2 };
        over(widen(nested), limits.path_depth.into(), "nested directories", "limits.pathDepth")?;
        over(widen(length), limits.path_length.into(), "bytes in a path", "limits.pathLength")?;
        over(self.summary.entries(), limits.entries, "entries", "limits.entries")?;
        over(self.summary.bytes, limits.tree_bytes, "bytes", "limits.treeBytes")?;
        if is_link && self.request.tree.symlinks == Symlinks::RejectEscaping { self.check_link(found) } else { Ok(()) }
    }

    fn check_link(&self, found: &Found<'_>) -> Result<(), SnapshotError> {
        let path = found.path.to_bytes();
        let target = fcntl::readlinkat(found.directory, found.name)
            .map_err(|error| SnapshotError::io("read link", path, error))?;
        // `root` and the link itself are not levels inside the volume.
        if symlink::may_escape(target.as_encoded_bytes(), found.depth - 2) {
            return Err(untrusted(path, "it is a link that may leave the volume"));
        }
        Ok(())
    }

    fn own(&self, found: &Found<'_>) -> Result<(), Errno> {
        let Owner { uid, gid } = self.owner;
        if (found.stat.st_uid, found.stat.st_gid) == (uid, gid) {
            return Ok(());
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        unistd::fchownat(found.directory, found.name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
    }
}

/// Checks one entry, wherever it is.
fn check_entry(found: &Found<'_>, device: u64) -> Result<(), &'static str> {
    if found.stat.st_dev != device {
        return Err("it is on another filesystem");
    }
    match (found.file_type(), found.permissions()) {
        (FileType::Directory, 0o755) | (FileType::Regular, 0o644 | 0o755) | (FileType::Symlink, _) => {}
        (FileType::Directory | FileType::Regular, _) => return Err("its mode is not one that a tree has"),
        (FileType::Other, _) => return Err("it is neither file nor directory nor link"),
    }
    // A second hard link could be anywhere, and stay writable.
    if found.file_type() != FileType::Directory && found.stat.st_nlink != 1 {
        return Err("it has more than one name");
    }
    Ok(())
}

/// Checks that the requested directory exists: a volume without it would look like an empty one.
fn check_directory(staging: &Beneath, request: &TreeRequest) -> Result<(), SnapshotError> {
    let mut path = ROOT.to_owned();
    for component in request.tree.directory.components() {
        let component = CString::new(component).map_err(|_| untrusted(path.to_bytes(), "it contains a NUL"))?;
        path = join(&path, &component);
    }
    staging.open(&path).map(drop).map_err(|_| untrusted(path.to_bytes(), "it is not a directory"))
}

fn check_manifest(
    staging: &Beneath,
    request: &TreeRequest,
    size: u64,
    summary: &TreeSummary,
) -> Result<(), SnapshotError> {
    let name = manifest::NAME;
    if size > manifest::longest(summary.entries(), request.limits.path_length) {
        return Err(untrusted(name.as_bytes(), "it is too long for this tree"));
    }
    let failed = |error: std::io::Error| SnapshotError::io("read", name.as_bytes(), error);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = fcntl::openat(staging, name, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let counted = manifest::count(BufReader::new(File::from(file)), request.limits.path_length)
        .map_err(failed)?
        .map_err(|reason| untrusted(name.as_bytes(), reason))?;
    let is_same = (counted.files, counted.symlinks, counted.bytes) == (summary.files, summary.symlinks, summary.bytes);
    // The manifest contains the directories of submodules, but no others.
    if !is_same || counted.directories > summary.directories {
        return Err(untrusted(name.as_bytes(), "it does not match the tree"));
    }
    Ok(())
}

fn untrusted(path: &[u8], reason: &str) -> SnapshotError {
    SnapshotError::Untrusted { path: String::from_utf8_lossy(path).into_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
