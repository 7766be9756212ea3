//! Checks the `.git` of a volume with git itself.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::git;
use crate::repository::Repository;

/// `git` in a working tree, as the user who owns it.
pub fn git(tree: &Path, arguments: &[&str]) -> Command {
    let mut command = git::command(tree);
    let owner = tree.join(".git").metadata().unwrap();
    if nix::unistd::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.args(arguments);
    command
}

/// Lets the owner of a tree reach it.
pub fn let_in(tree: &Path) {
    for directory in tree.ancestors().skip(1) {
        let mode = directory.metadata().unwrap().permissions().mode();
        if mode & 0o001 == 0 {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode | 0o011)).unwrap();
        }
    }
}

/// One line of what git says in a working tree.
pub fn line(tree: &Path, arguments: &[&str]) -> String {
    git::line(&mut git(tree, arguments))
}

/// Fails unless git finds nothing changed in the tree, and needs to read none of its files to know.
pub fn assert_clean(tree: &Path) {
    assert_eq!(line(tree, &["status", "--porcelain", "--ignored=no"]), "");
    // Unlike git-status, this names what is only to be looked at.
    assert_eq!(line(tree, &["diff-files", "--raw"]), "", "what lstat says is not in the index");
    // And what is not older than the index, git reads again.
    let index = tree.join(".git/index").metadata().unwrap().mtime();
    let tracked = git::output(&mut git(tree, &["ls-files", "-z"]));
    for path in tracked.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        let path = tree.join(OsStr::from_bytes(path));
        let found = path.symlink_metadata().unwrap();
        assert!(found.is_dir() || found.mtime() < index, "{}", path.display());
    }
}

/// Fails unless the repository is one that git accepts, with exactly the objects of git's own clone of that depth.
pub fn assert_whole(tree: &Path, repository: &Repository, commit: &str, depth: u32) {
    assert_eq!(line(tree, &["rev-parse", "HEAD"]), commit);
    git::output(&mut git(tree, &["fsck", "--full"]));
    let place = TempDir::new().unwrap();
    let clone = place.path().join("clone");
    git::output(git::command(place.path()).args(["init", "--quiet", "clone"]));
    let url = format!("file://{}", repository.path().display());
    let depth = (depth > 0).then(|| format!("--depth={depth}"));
    git::output(git::command(&clone).args(["fetch", "--quiet", "--no-tags"]).args(depth).args([&url, commit]));
    assert_eq!(objects(&mut git(tree, ALL)), objects(git::command(&clone).args(ALL)), "other objects than in a clone");
    let count = ["rev-list", "--count", "HEAD"];
    assert_eq!(line(tree, &count), git::line(git::command(&clone).args(["rev-list", "--count", commit])));
}

const ALL: &[&str] = &["cat-file", "--batch-check", "--batch-all-objects"];

fn objects(command: &mut Command) -> BTreeSet<String> {
    git::text(git::output(command)).lines().map(str::to_owned).collect()
}
