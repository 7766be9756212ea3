//! The bare repository that a fetch writes into.
//!
//! It is created by hand from the few files that make a directory a repository, so that no template, hook or setting of
//! the host gets in. `objects/info/alternates` gives access to the objects of a base. Copies of the base's refs and its
//! `shallow` file make libgit2 offer those objects, so that the server sends a thin pack.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Oid;

use crate::error::Cause;
use crate::error::Kind;
use crate::error::io_kind;
use crate::remote::RemoteError;
use crate::spec::CommitId;

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
const HEAD: &str = "ref: refs/heads/main\n";

/// A ref below this is named after its commit, and records that the commit's whole tree is here.
const COMMITS: &str = "refs/commits";

/// Shown in place of a repository's path.
pub(crate) const IN_MEMORY: &str = "(in memory)";

/// The maximum that libgit2 offers in one negotiation.
const OFFERED: usize = 256;

/// Creates a bare repository on top of `base` at `path`, an absent or empty directory.
pub(crate) fn create(path: &Path, base: Option<&Path>) -> Result<git2::Repository, RemoteError> {
    lay_out(path, base).map_err(|error| unusable_io(path, &error))?;
    if let Some(base) = base {
        let refs = refs_of(base).map_err(|error| unusable(base, &error))?;
        fs::write(path.join("packed-refs"), refs).map_err(|error| unusable_io(path, &error))?;
    }
    git2::Repository::open_bare(path).map_err(|error| unusable(path, &error))
}

/// An in-memory repository, for a connection that fetches nothing.
pub(crate) fn in_memory() -> Result<git2::Repository, RemoteError> {
    git2::Odb::new().and_then(git2::Repository::from_odb).map_err(|error| unusable(Path::new(IN_MEMORY), &error))
}

fn lay_out(path: &Path, base: Option<&Path>) -> io::Result<()> {
    for directory in ["objects/info", "objects/pack", "refs"] {
        fs::create_dir_all(path.join(directory))?;
    }
    fs::File::create_new(path.join("config"))?.write_all(CONFIG.as_bytes())?;
    fs::File::create_new(path.join("HEAD"))?.write_all(HEAD.as_bytes())?;
    let Some(base) = base else { return Ok(()) };
    let mut alternates = base.join("objects").as_os_str().as_bytes().to_vec();
    alternates.push(b'\n');
    fs::write(path.join("objects/info/alternates"), alternates)?;
    match fs::copy(base.join("shallow"), path.join("shallow")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The refs of `base` whose commits exist, as the text of a `packed-refs` file.
fn refs_of(base: &Path) -> Result<String, git2::Error> {
    let repository = git2::Repository::open_bare(base)?;
    let mut commits = Vec::new();
    for reference in repository.references_glob(&format!("{COMMITS}/*"))? {
        let Some(target) = reference?.target() else { continue };
        // An unreadable commit would fail the negotiation.
        if let Ok(commit) = repository.find_commit(target) {
            commits.push((std::cmp::Reverse(commit.time().seconds()), target));
        }
    }
    commits.sort_unstable();
    Ok(commits.iter().map(|(_, target)| format!("{target} {COMMITS}/{target}\n")).collect())
}

/// An id in libgit2's form.
pub(crate) fn oid(commit: CommitId) -> Oid {
    // libgit2 fails only for a different length, which this array cannot have.
    Oid::from_bytes(commit.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

/// An id in our form.
pub(crate) fn commit_id(oid: Oid) -> CommitId {
    let mut id = [0; 20];
    id.copy_from_slice(oid.as_bytes());
    CommitId::from_bytes(id)
}

/// Whether the commit was fetched with its whole tree into `repository` or its base.
pub(crate) fn holds(repository: &git2::Repository, commit: CommitId) -> bool {
    repository.find_reference(&format!("{COMMITS}/{commit}")).is_ok()
}

/// Records that these commits are here with their whole trees: [`holds`] reads this, and the next fetch offers them.
pub(crate) fn record(
    repository: &git2::Repository,
    commits: impl IntoIterator<Item = CommitId>,
) -> Result<(), git2::Error> {
    for commit in commits.into_iter().take(OFFERED) {
        repository.reference(&format!("{COMMITS}/{commit}"), oid(commit), true, "")?;
    }
    Ok(())
}

/// Where the object of a remote's ref leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// To a commit that is here with its root tree.
    Commit(Oid),
    /// To another type of object.
    Other(ObjectType),
    /// To an object that is not here.
    Nothing,
}

/// Follows annotated tags from `target` to a commit.
pub(crate) fn peel(repository: &git2::Repository, target: Oid) -> Result<Found, git2::Error> {
    let peeled = match repository.find_object(target, None).and_then(|object| match object.kind() {
        Some(ObjectType::Tag) => object.peel(ObjectType::Any),
        _ => Ok(object),
    }) {
        Ok(peeled) => peeled,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let Some(commit) = peeled.as_commit() else { return Ok(Found::Other(peeled.kind().unwrap_or(ObjectType::Any))) };
    match commit.tree() {
        Ok(_) => Ok(Found::Commit(commit.id())),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// A failure of libgit2 on the local disk.
pub(crate) fn unusable(path: &Path, error: &git2::Error) -> RemoteError {
    let message = error.message();
    let full =
        ["No space left on device", "Disk quota exceeded", "File too large"].iter().any(|text| message.contains(text));
    RemoteError::Local { path: path.to_owned(), full, source: Cause::new(message) }
}

fn unusable_io(path: &Path, error: &io::Error) -> RemoteError {
    let full = io_kind(error) == Kind::ResourceExhausted;
    RemoteError::Local { path: path.to_owned(), full, source: Cause::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_way_to_libgit2_and_back() {
        let id = CommitId::from_bytes(std::array::from_fn(|place| u8::try_from(place).unwrap()));
        assert_eq!(commit_id(oid(id)), id);
        assert_eq!(oid(id).to_string(), id.to_string());
    }
}
