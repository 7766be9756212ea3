//! What a worker left in its staging directory: checked, and taken from it.

use std::fs::File;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;
use nix::unistd::Gid;
use nix::unistd::Uid;

use super::listed::untrusted;
use crate::snapshot::Owner;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir::pack;
use crate::snapshot::manifest;

/// Checks that the worker left nothing but plain files, its manifest and the pack of `.git`, and takes ownership of them.
pub(crate) fn take(staging: &Path, request: &TreeRequest, owner: Owner) -> Result<File, SnapshotError> {
    let opened = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
    let failed = |error: nix::Error| SnapshotError::io("list", b"", error);
    let listing = opened.open(c"").and_then(Dir::from_fd).map_err(failed)?;
    for entry in listing {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        let is_pack = request.repository.is_some() && name == pack::FILE.as_bytes();
        if !matches!(name, b"." | b"..") && name != manifest::NAME.as_bytes() && !is_pack {
            return Err(untrusted(name, "it does not belong there"));
        }
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    unistd::fchown(&opened, uid, gid).map_err(|error| SnapshotError::io("take ownership of", b"", error))?;
    if request.repository.is_some() {
        let pack = take_file(staging, &opened, pack::FILE, owner)?;
        pack.set_permissions(Permissions::from_mode(0o444))
            .map_err(|error| SnapshotError::io("change the mode of", pack::FILE.as_bytes(), error))?;
    }
    take_file(staging, &opened, manifest::NAME, owner)
}

fn take_file(staging: &Path, opened: &Beneath, name: &str, owner: Owner) -> Result<File, SnapshotError> {
    let file = open_file(opened, name)?;
    let failed = |error| SnapshotError::io("examine", name.as_bytes(), error);
    let (found, place) = (file.metadata().map_err(failed)?, staging.metadata().map_err(failed)?);
    let reason = match (found.is_file(), found.mode() & 0o7777, found.nlink(), found.dev() == place.dev()) {
        (true, 0o644, 1, true) => None,
        (false, ..) => Some("it is not a regular file"),
        (_, _, _, false) => Some("it is on another filesystem"),
        (_, _, 1, _) => Some("its mode is not one that a tree has"),
        // A second hard link could be anywhere, and stay writable.
        _ => Some("it has more than one name"),
    };
    if let Some(reason) = reason {
        return Err(untrusted(name.as_bytes(), reason));
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    unistd::fchown(&file, uid, gid).map_err(|error| SnapshotError::io("take ownership of", name.as_bytes(), error))?;
    Ok(file)
}

/// Opens the manifest, and follows no link.
pub(crate) fn open(staging: &Beneath) -> Result<File, SnapshotError> {
    open_file(staging, manifest::NAME)
}

fn open_file(staging: &Beneath, name: &str) -> Result<File, SnapshotError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match fcntl::openat(staging, name, flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        Err(nix::errno::Errno::ENOENT) => Err(untrusted(name.as_bytes(), "it is missing")),
        Err(nix::errno::Errno::ELOOP) => Err(untrusted(name.as_bytes(), "it is not a regular file")),
        Err(error) => Err(SnapshotError::io("open", name.as_bytes(), error)),
    }
}
