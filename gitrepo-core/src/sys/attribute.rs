//! Extended attributes, which nix does not have.

use std::ffi::CStr;

use nix::errno::Errno;

/// Sets an extended attribute of the file at a path, and of a link itself.
pub(crate) fn set(path: &CStr, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the path and the name are C strings, and the value has the length that is passed.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}
