//! Keys that sign commits and tags, and the file of those that may.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::git;
use crate::repository::Repository;

/// A key of `ssh-keygen`.
pub struct SigningKey {
    place: TempDir,
}

impl Default for SigningKey {
    fn default() -> Self {
        Self::new()
    }
}

impl SigningKey {
    /// A new ed25519 key.
    pub fn new() -> Self {
        let place = TempDir::new().unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(place.path().join("key"));
        git::output(&mut keygen);
        Self { place }
    }

    fn private(&self) -> PathBuf {
        self.place.path().join("key")
    }

    /// Its line for a file of allowed signers, with options such as `valid-before="20200101"`.
    pub fn allowed(&self, principal: &str, options: &str) -> String {
        let public = fs::read_to_string(self.place.path().join("key.pub")).unwrap();
        format!("{principal} {options} {public}")
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> String {
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-lf").arg(self.place.path().join("key.pub"));
        let line = git::line(&mut keygen);
        line.split(' ').nth(1).unwrap().to_owned()
    }

    /// Arguments for git to sign with it.
    fn settings(&self) -> [String; 4] {
        let key = format!("user.signingkey={}", self.private().display());
        ["-c".to_owned(), "gpg.format=ssh".to_owned(), "-c".to_owned(), key]
    }

    /// Signs the commit that a branch stands at: makes another one with the same tree, and moves the branch there.
    pub fn sign_branch(&self, repository: &Repository, branch: &str) -> String {
        let settings = self.settings();
        let tree = format!("refs/heads/{branch}^{{tree}}");
        let arguments = ["commit-tree", "-S", "-m", "signed", &tree];
        let mut command = repository.git(settings.iter().map(String::as_str).chain(arguments));
        let commit = git::line(&mut command);
        repository.set_branch(branch, &commit);
        commit
    }

    /// Makes a signed tag.
    pub fn sign_tag(&self, repository: &Repository, name: &str, target: &str) -> String {
        let settings = self.settings();
        let arguments = ["tag", "--force", "-s", "-m", "signed", name, target];
        git::output(&mut repository.git(settings.iter().map(String::as_str).chain(arguments)));
        repository.resolve(&format!("refs/tags/{name}"))
    }

    /// Signs bytes for a namespace, and returns the armored signature.
    pub fn sign(&self, namespace: &str, payload: &[u8]) -> String {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-Y", "sign", "-n", namespace, "-f"]).arg(self.private());
        git::text(git::output_with_input(&mut keygen, payload)) + "\n"
    }
}

/// Writes a commit object as it stands, and returns its id.
pub fn write_commit(repository: &Repository, content: &[u8]) -> String {
    let arguments = ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"];
    git::text(git::output_with_input(&mut repository.git(arguments), content))
}

/// The content of a commit or a tag.
pub fn content(repository: &Repository, kind: &str, id: &str) -> String {
    String::from_utf8(git::output(&mut repository.git(["cat-file", kind, id]))).unwrap()
}

/// Puts signatures into the header of a commit that has none.
pub fn with_signatures(commit: &str, signatures: &[String]) -> String {
    let (header, message) = commit.split_once("\n\n").unwrap();
    let line = |signature: &String| format!("\ngpgsig {}", signature.trim_end().replace('\n', "\n "));
    let lines: String = signatures.iter().map(line).collect();
    format!("{header}{lines}\n\n{message}")
}

/// Writes a file of allowed signers.
pub fn write_allowed(path: &Path, lines: &[String]) {
    fs::write(path, lines.concat()).unwrap();
}
