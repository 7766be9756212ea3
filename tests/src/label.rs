//! SELinux labels of files, which a kernel without SELinux keeps as it keeps any other attribute.

use std::path::Path;

use crate::sys;

/// The label of a file, or of a link itself.
pub fn of(path: &Path) -> Option<String> {
    let label = sys::attribute(path, c"security.selinux").unwrap()?;
    Some(String::from_utf8(label.strip_suffix(b"\0").expect("a zero byte at the end").to_vec()).unwrap())
}
