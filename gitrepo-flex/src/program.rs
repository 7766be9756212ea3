//! Where the running program is. Driver and installer look for files beside themselves.

use std::path::Path;
use std::path::PathBuf;

/// The directory of the running program, without links on the way. An executable that was replaced while it runs has
/// ` (deleted)` behind its name, and its directory is still the right one.
pub fn directory() -> Option<PathBuf> {
    let called = || std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    let executable = std::env::current_exe().ok().or_else(called)?;
    executable.parent().map(Path::to_owned)
}
