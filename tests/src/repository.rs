//! Git repositories for tests.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::git;

mod files;
mod listing;
mod raw;

pub use files::Files;
pub use listing::Listed;
pub use raw::RawEntry;

/// A bare repository in its own directory, removed when dropped.
///
/// The same calls make the same commit ids in every run. Servers see changes at once, so a call after a server has
/// started acts like a `git push`.
pub struct Repository {
    name: String,
    place: TempDir,
    commits: AtomicU64,
}

impl Repository {
    /// An empty repository `<name>.git`, whose HEAD is `refs/heads/main`. Like the large forges, it serves any commit
    /// by its id; see [`Self::refuse_commits_by_id`].
    pub fn new(name: &str) -> Self {
        Self::of_format(name, "sha1")
    }

    /// The same, with ids of SHA-256.
    pub fn of_sha256(name: &str) -> Self {
        Self::of_format(name, "sha256")
    }

    fn of_format(name: &str, format: &str) -> Self {
        let place = TempDir::with_prefix("gitrepo-fixture-").unwrap();
        let repository = Self { name: format!("{name}.git"), place, commits: AtomicU64::new(0) };
        git::output(git::command(repository.place.path()).args([
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--initial-branch=main",
            "--object-format",
            format,
            &repository.name,
        ]));
        repository.serve_commits_by_id();
        repository
    }

    /// `<name>.git`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bare repository.
    pub fn path(&self) -> PathBuf {
        self.place.path().join(&self.name)
    }

    /// The directory that contains only the repository: a server's root.
    pub fn root(&self) -> &Path {
        self.place.path()
    }

    /// `git` in the repository.
    pub fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = git::command(&self.path());
        command.args(arguments);
        command
    }

    /// Sets a configuration variable of the repository.
    pub fn configure(&self, key: &str, value: &str) {
        git::output(&mut self.git(["config", key, value]));
    }

    /// Lets the server serve any commit by its id.
    pub fn serve_commits_by_id(&self) {
        self.configure("uploadpack.allowAnySHA1InWant", "true");
    }

    /// Lets the server serve only what its refs point to, as servers do by default.
    pub fn refuse_commits_by_id(&self) {
        self.configure("uploadpack.allowAnySHA1InWant", "false");
    }

    /// Commits `files` on top of `branch`, which is created if missing, and returns the commit's id.
    pub fn commit(&self, branch: &str, files: &Files) -> String {
        let parent = self.find(&format!("refs/heads/{branch}"));
        self.commit_on(parent.as_deref(), &format!("refs/heads/{branch}"), files)
    }

    /// Commits `files` with no parent, for `reference` (`refs/tags/orphan`), and returns the commit's id.
    pub fn commit_unrelated(&self, reference: &str, files: &Files) -> String {
        self.commit_on(None, reference, files)
    }

    fn commit_on(&self, parent: Option<&str>, reference: &str, files: &Files) -> String {
        let number = self.commits.fetch_add(1, Ordering::Relaxed);
        let stream = files.import_stream(reference, parent, number);
        let mut import = self.git(["fast-import", "--quiet", "--force", "--done"]);
        git::text(git::output_with_input(&mut import, &stream))
    }

    /// Makes a lightweight tag of `target`, anything `git rev-parse` understands.
    pub fn tag(&self, name: &str, target: &str) {
        self.set_reference(&format!("refs/tags/{name}"), target);
    }

    /// Makes an annotated tag of `target`, which may be another tag, and returns the tag object's id.
    pub fn annotated_tag(&self, name: &str, target: &str, message: &str) -> String {
        git::output(&mut self.git(["tag", "--annotate", "--message", message, name, target]));
        self.resolve(&format!("refs/tags/{name}"))
    }

    /// Moves `branch` to `target`: a new branch, or a forced push.
    pub fn set_branch(&self, branch: &str, target: &str) {
        self.set_reference(&format!("refs/heads/{branch}"), target);
    }

    /// Moves any ref to `target`, even if that object does not exist.
    pub fn set_reference(&self, reference: &str, target: &str) {
        git::output(&mut self.git(["update-ref", reference, target]));
    }

    /// Removes a branch.
    pub fn delete_branch(&self, branch: &str) {
        git::output(&mut self.git(["update-ref", "-d", &format!("refs/heads/{branch}")]));
    }

    /// Points HEAD to `branch`, which need not exist.
    pub fn set_head(&self, branch: &str) {
        git::output(&mut self.git(["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]));
    }

    /// Forgets all but so many commits of the history of `main`: the repository is shallow, as after
    /// `git clone --depth`. No other ref may lead to them.
    pub fn cut_history(&self, commits: usize) {
        let last = self.resolve(&format!("main~{}", commits - 1));
        std::fs::write(self.path().join("shallow"), format!("{last}\n")).unwrap();
        git::output(&mut self.git(["repack", "-a", "-d", "--quiet"]));
        git::output(&mut self.git(["prune", "--expire=now"]));
    }

    /// Adds so many refs at once: half of them changes, half branches below `many/`. To be called once, for a repository
    /// without packed refs.
    pub fn add_refs(&self, count: usize, target: &str) {
        // git's own ways take a minute for so many.
        let changes = (0..count / 2).map(|number| format!("{target} refs/changes/{number:06}\n"));
        let branches = (count / 2..count).map(|number| format!("{target} refs/heads/many/{number:06}\n"));
        let lines: String = changes.chain(branches).collect();
        let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{lines}");
        std::fs::write(self.path().join("packed-refs"), packed).unwrap();
    }

    /// The object id of an existing revision.
    pub fn resolve(&self, revision: &str) -> String {
        self.find(revision).unwrap_or_else(|| panic!("{} has no {revision}", self.name))
    }

    fn find(&self, revision: &str) -> Option<String> {
        let output = self.git(["rev-parse", "--verify", "--quiet", revision]).output().unwrap();
        output.status.success().then(|| git::text(output.stdout))
    }

    /// The time of the commit, in seconds since the epoch.
    pub fn commit_time(&self, commit: &str) -> u64 {
        git::line(&mut self.git(["show", "--no-patch", "--format=%ct", commit])).parse().unwrap()
    }
}
