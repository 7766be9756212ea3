//! Superprojects, and what `git clone --recurse-submodules` makes of them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::git;
use crate::repository::Files;

/// A submodule of a commit.
#[derive(Debug, Clone, Copy)]
pub struct Submodule<'a> {
    /// Its place in the tree.
    pub path: &'a str,
    /// As `.gitmodules` has it.
    pub url: &'a str,
    /// Its commit.
    pub commit: &'a str,
}

/// Adds submodules to a commit, and the `.gitmodules` that names them.
#[must_use]
pub fn with_submodules(files: Files, submodules: &[Submodule<'_>]) -> Files {
    let section = |Submodule { path, url, .. }: &Submodule<'_>| {
        format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n")
    };
    let files = files.file(".gitmodules", submodules.iter().map(section).collect::<String>());
    submodules.iter().fold(files, |files, submodule| files.submodule(submodule.path, submodule.commit))
}

/// Mode with its file type, and content or target, of everything below a directory.
pub type Contents = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// Everything below a directory, but for what is named `.git`.
pub fn contents(root: &Path) -> Contents {
    let mut found = Contents::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(".git") {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => path.read_link().unwrap().as_os_str().as_bytes().to_vec(),
                kind if kind.is_file() => std::fs::read(&path).unwrap(),
                _ => Vec::new(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode(), content));
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}

/// What git makes of HEAD of the repository at `url`, submodules included.
pub fn cloned_by_git(url: &str) -> Contents {
    let place = tempfile::tempdir().unwrap();
    let mut clone = git::command(place.path());
    clone.args(["-c", "core.autocrlf=false", "clone", "--quiet", "--recurse-submodules", url, "tree"]);
    git::output(&mut clone);
    contents(&place.path().join("tree"))
}
