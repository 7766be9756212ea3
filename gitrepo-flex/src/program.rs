//! Locates the running program. The driver and the installer look for files in their own directory.

use std::path::Path;
use std::path::PathBuf;

/// Returns the directory of the running program, with links resolved. The kernel appends ` (deleted)` to the name of an
/// executable that was replaced while it runs; its directory is still correct.
pub fn directory() -> Option<PathBuf> {
    let called = || std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    let executable = std::env::current_exe().ok().or_else(called)?;
    executable.parent().map(Path::to_owned)
}
