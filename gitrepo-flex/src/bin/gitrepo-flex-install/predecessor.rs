//! Removes files of the bash driver's installer: its own git and jq and their settings, in the directory above the
//! plugin directory, where the kubelet does not look.
//!
//! The bash driver has the same name as ours, which replaces it. The other files are removed only if the settings lie
//! beside them, which proves their origin, and only if no driver on the node is still that script.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::error::InstallError;

/// The name of the settings, which the bash driver reads from two directories above itself.
const SETTINGS: &str = "gitrepo_env.rc";

/// The variables that the settings assign.
const ASSIGNED: [&str; 3] = ["DRIVER_LOCATION=", "GIT_EXE=", "JQ_EXE="];

/// How much of a file to read, in bytes: far more than the script's size.
const SCRIPT_LIMIT: u64 = 256 * 1024;

/// Returns the temporary name that the bash driver's installer gives to an unfinished driver.
pub(crate) fn unfinished(driver: &str) -> String {
    format!(".tmp_{driver}")
}

/// Whether the bash driver's installer creates files with this name.
pub(crate) fn is_known(name: &str) -> bool {
    ["git", "jq", "jq-linux64", SETTINGS].contains(&name) || (name.starts_with("git_") && name.ends_with("_amd64.deb"))
}

/// Removes the installer's files from `above`, and from the directory of the driver `executable`, which may itself be
/// called `git`.
pub(crate) fn remove(plugin_directory: &Path, executable: &Path, above: Option<&Path>) -> Result<(), InstallError> {
    for directory in [executable.parent(), above].into_iter().flatten() {
        if !has_settings(directory)? {
            continue;
        }
        if let Some(user) = script_in_use(plugin_directory)? {
            tracing::warn!(driver = %user.display(), "git and jq are not removed: the bash driver uses them");
            return Ok(());
        }
        remove_from(directory, executable)?;
    }
    Ok(())
}

fn has_settings(directory: &Path) -> Result<bool, InstallError> {
    let path = directory.join(SETTINGS);
    let text = read_start(&path).map_err(InstallError::io("read", &path))?;
    let text = String::from_utf8_lossy(&text);
    Ok(ASSIGNED.iter().all(|assigned| text.lines().any(|line| line.starts_with(assigned))))
}

/// Returns a driver of the node that is still the bash script, under another vendor or name.
fn script_in_use(plugin_directory: &Path) -> Result<Option<PathBuf>, InstallError> {
    let list = |path: &Path| -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
            entries => entries?.map(|entry| Ok(entry?.path())).collect(),
        }
    };
    for directory in list(plugin_directory).map_err(InstallError::io("list", plugin_directory))? {
        for file in list(&directory).map_err(InstallError::io("list", &directory))? {
            let start = read_start(&file).map_err(InstallError::io("read", &file))?;
            let uses = start.starts_with(b"#!") && String::from_utf8_lossy(&start).contains(SETTINGS);
            if uses {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

fn remove_from(directory: &Path, executable: &Path) -> Result<(), InstallError> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = list().map_err(InstallError::io("list", directory))?;
    names.retain(|name| name.to_str().is_some_and(is_known) && directory.join(name) != executable);
    // Remove the settings last: if this process dies early, the next one still recognises the files.
    names.sort_by_key(|name| name == SETTINGS);
    for name in names {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            tracing::warn!(path = %path.display(), "not removed: it is a directory");
            continue;
        }
        fs::remove_file(&path).map_err(InstallError::io("remove", &path))?;
        tracing::info!(path = %path.display(), "removed: it belonged to the bash driver");
    }
    Ok(())
}

/// Returns the beginning of a regular file, or nothing for any other file.
fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        File::open(path)?.take(SCRIPT_LIMIT).read_to_end(&mut start)?;
    }
    Ok(start)
}
