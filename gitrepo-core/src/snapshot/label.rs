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
use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::spec::Label;
use crate::sys;

/// Where the kernel keeps labels (selinux(8), xattr(7)).
const ATTRIBUTE: &CStr = c"security.selinux";

/// A failure to label a tree.
#[derive(Debug)]
pub(crate) enum LabelFailure {
    Io(io::Error),
    Interrupted(Interrupted),
}

/// Gives a label to a directory and to everything below it. A filesystem whose mount labels all its files, or that keeps
/// no labels, stays as it is.
pub(crate) fn label(tree: &Path, label: &Label, cancel: &Cancel) -> Result<(), LabelFailure> {
    let failed = |error: Errno| LabelFailure::Io(error.into());
    let root = Beneath::new(tree).map_err(failed)?;
    let mut labelling = Labelling { label, cancel };
    match set(label, root.as_fd(), c".") {
        Err(LabelFailure::Io(error)) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            tracing::debug!(tree = %tree.display(), "the filesystem keeps no labels of its own");
            return Ok(());
        }
        labelled => labelled?,
    }
    walk::walk(&root, &mut labelling)
}

fn set(label: &Label, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), LabelFailure> {
    // The call for a name in an open directory is newer than the kernels of most nodes (Linux 6.13).
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let path = CString::new(path).map_err(|_| LabelFailure::Io(Errno::EINVAL.into()))?;
    let set = sys::attribute::set(&path, ATTRIBUTE, label.as_c_str().to_bytes_with_nul());
    set.map_err(|error| LabelFailure::Io(explained(error, label)))
}

/// Says what to do if the policy has no such label (EINVAL), or forbids it (EACCES; EPERM where no policy decides).
fn explained(error: Errno, label: &Label) -> io::Error {
    let kind = match error {
        Errno::EINVAL => io::ErrorKind::Unsupported,
        Errno::EACCES | Errno::EPERM => io::ErrorKind::PermissionDenied,
        _ => return error.into(),
    };
    io::Error::new(kind, format!("{}; {}", error.desc(), label.advice()))
}

struct Labelling<'a> {
    label: &'a Label,
    cancel: &'a Cancel,
}

impl Visitor for Labelling<'_> {
    type Error = LabelFailure;

    fn visit(&mut self, found: &Found<'_>) -> Result<(), LabelFailure> {
        self.cancel.check().map_err(LabelFailure::Interrupted)?;
        set(self.label, found.directory, found.name)
    }

    fn failed(&self, _action: &'static str, _path: &CStr, error: Errno) -> LabelFailure {
        LabelFailure::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_policy_says_what_to_set() {
        let label = Label::of_containers();
        for (errno, kind) in [
            (Errno::EINVAL, io::ErrorKind::Unsupported),
            (Errno::EACCES, io::ErrorKind::PermissionDenied),
            (Errno::EPERM, io::ErrorKind::PermissionDenied),
        ] {
            let error = explained(errno, &label);
            assert_eq!(error.kind(), kind);
            let text = error.to_string();
            assert!(text.starts_with(errno.desc()) && text.contains("set seLinuxContext"), "{text}");
        }
        assert_eq!(explained(Errno::ENOSPC, &label).raw_os_error(), Some(libc::ENOSPC));
    }
}
