//! Full verification of a tree of plain files against its manifest.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;
use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::Directory;
use super::ROOT;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir;
use crate::snapshot::mountable::listed::Kind;
use crate::snapshot::mountable::listed::Listed;
use crate::snapshot::mountable::staged;
use crate::snapshot::verify::Verifier;
use crate::snapshot::verify::VerifyError;
use crate::snapshot::verify::without_limits;
use crate::snapshot::walk;
use crate::snapshot::walk::FileType;
use crate::snapshot::walk::Found;
use crate::snapshot::walk::Visitor;

impl Directory {
    /// Compares every name, type and permission with the manifest, and hashes every file and link.
    pub(super) fn verify_snapshot(
        snapshot: &Path,
        request: &TreeRequest,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError> {
        let opened = Beneath::new(snapshot).map_err(|error| SnapshotError::io("open", b"", error))?;
        let listed = Listed::read(staged::open(&opened)?, &without_limits(request))?;
        let root = match opened.beneath(ROOT) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(VerifyError::Damaged("its tree is gone".to_owned()));
            }
            root => root.map_err(|error| VerifyError::Unreadable(error.into()))?,
        };
        let digest = listed.digest();
        let missing = listed.nodes.iter().map(|node| (listed.path(node), node.kind)).collect();
        let mut comparison = Comparison { missing, listed: &listed, verifier };
        walk::walk(&root, &mut comparison)?;
        match comparison.missing.keys().min() {
            None => Ok(digest),
            Some(path) => Err(damaged(path, "is gone")),
        }
    }
}

struct Comparison<'a, 'b> {
    /// What the manifest lists and the walk has not found yet.
    missing: HashMap<Vec<u8>, Kind>,
    listed: &'a Listed,
    verifier: &'a mut Verifier<'b>,
}

impl Visitor for Comparison<'_, '_> {
    type Error = VerifyError;

    fn visit(&mut self, found: &Found<'_>) -> Result<(), VerifyError> {
        let path = found.path.to_bytes();
        let Some(kind) = self.missing.remove(path) else {
            return Err(damaged(path, "does not belong to the tree"));
        };
        match (kind, found.file_type()) {
            (Kind::Directory, FileType::Directory) => Ok(()),
            (Kind::Symlink { target }, FileType::Symlink) => {
                let link = fcntl::readlinkat(found.directory, found.name);
                let link = link.map_err(|error| VerifyError::Unreadable(error.into()))?;
                let id = Oid::hash_object(ObjectType::Blob, link.as_encoded_bytes());
                if id.is_ok_and(|id| id == target.id) { Ok(()) } else { Err(damaged(path, "links to something else")) }
            }
            (Kind::Written { number, size }, FileType::Regular) => {
                let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
                let read = open(found)?.read_exact_at(&mut content, 0);
                let expected = &self.listed.written[number];
                let is_index = self.listed.is_index(number);
                let is_same = content == *expected || is_index && git_dir::index::is_like(&content, expected);
                if read.is_ok() && found.size() == size && is_same && found.stat.st_mode & 0o7777 == 0o644 {
                    return Ok(());
                }
                Err(damaged(path, "is not what was written"))
            }
            (Kind::File { executable, content }, FileType::Regular) => {
                let mode = if executable { 0o755 } else { 0o644 };
                if found.stat.st_mode & 0o7777 != mode {
                    return Err(damaged(path, "has other permissions"));
                }
                let file = open(found)?;
                match found.size() == content.size && self.verifier.hash(&file, 0, content.size)? == Some(content.id) {
                    true => Ok(()),
                    false => Err(damaged(path, "has other content")),
                }
            }
            _ => Err(damaged(path, "is of another type")),
        }
    }

    fn failed(&self, _action: &'static str, _path: &CStr, error: Errno) -> VerifyError {
        VerifyError::Unreadable(error.into())
    }
}

fn open(found: &Found<'_>) -> Result<File, VerifyError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = fcntl::openat(found.directory, found.name, flags, Mode::empty());
    file.map(File::from).map_err(|error| VerifyError::Unreadable(error.into()))
}

fn damaged(path: &[u8], what: &str) -> VerifyError {
    VerifyError::Damaged(format!("{:?} {what}", path.escape_ascii().to_string()))
}
