//! Labels the files of a tree for SELinux.

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;

use super::beneath::Beneath;
use super::walk;
use super::walk::Found;
use super::walk::Visitor;
use crate::spec::Label;
use crate::sys;

/// Where the kernel keeps labels (selinux(8), xattr(7)).
const ATTRIBUTE: &CStr = c"security.selinux";

/// Gives a label to a directory and to everything below it. A filesystem whose mount labels all its files, or that keeps
/// no labels, stays as it is.
pub(crate) fn label(tree: &Path, label: &Label) -> io::Result<()> {
    let root = Beneath::new(tree)?;
    let mut labelling = Labelling { label };
    match labelling.set(root.as_fd(), c".").and_then(|()| walk::walk(&root, &mut labelling)) {
        Err(Errno::EOPNOTSUPP) => {
            tracing::debug!(tree = %tree.display(), "the filesystem keeps no labels of its own");
            Ok(())
        }
        labelled => Ok(labelled?),
    }
}

struct Labelling<'a> {
    label: &'a Label,
}

impl Labelling<'_> {
    fn set(&self, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        // The call for a name in an open directory is newer than the kernels of most nodes (Linux 6.13).
        let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        sys::attribute::set(&path, ATTRIBUTE, self.label.as_c_str().to_bytes_with_nul())
    }
}

impl Visitor for Labelling<'_> {
    type Error = Errno;

    fn visit(&mut self, found: &Found<'_>) -> Result<(), Errno> {
        self.set(found.directory, found.name)
    }

    fn failed(&self, _action: &'static str, _path: &CStr, error: Errno) -> Errno {
        error
    }
}
