//! The proofs of one credential: a small file for each commit.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::StoreError;
use super::age;
use super::files;
use super::read;
use crate::spec::CommitId;
use crate::store::clock::Moment;

/// The extension of the file's name.
pub(super) const EXTENSION: &str = "proof";

/// What the remote did to prove that a credential may read a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Evidence {
    /// It told that a ref stands at the commit.
    Ref,
    /// It gave out the commit, asked for its id: in the pack of a fetch, or else with nothing of ours on offer.
    Commit,
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proof {
    pub(super) at: Moment,
    pub(super) by: Evidence,
    /// Whether the remote has also given out the commit itself, now or earlier in this boot.
    #[serde(default)]
    pub(super) content: bool,
}

/// Returns the file name of a commit's proof.
pub(super) fn file_name(commit: &CommitId) -> String {
    format!("{commit}.{EXTENSION}")
}

/// Returns the proof of a commit, if it is younger than `ttl` and of this boot.
pub(super) fn fresh(directory: &Path, commit: &CommitId, ttl: Duration) -> Option<Evidence> {
    let proof = read::<Proof>(&directory.join(file_name(commit)))?;
    age(&proof.at).is_some_and(|age| age < ttl).then_some(proof.by)
}

/// Whether the remote has given out the commit itself in this boot.
pub(super) fn has_content(directory: &Path, commit: &CommitId) -> bool {
    let proof = read::<Proof>(&directory.join(file_name(commit)));
    proof.is_some_and(|proof| proof.content && age(&proof.at).is_some())
}

/// Returns the commits that have a proof, of any age and any boot.
pub(super) fn commits(directory: &Path) -> Vec<CommitId> {
    files::list(directory, EXTENSION).filter_map(|path| CommitId::parse(path.file_stem()?.to_str()?).ok()).collect()
}

/// Whether the remote has ever given out a commit itself, and not just told of one.
pub(super) fn any_content(directory: &Path) -> bool {
    files::list(directory, EXTENSION).any(|path| read::<Proof>(&path).is_some_and(|proof| proof.content))
}

/// Whether a proof of this boot is younger than `limit`; `None` without a proof of this boot.
pub(super) fn any_younger(directory: &Path, limit: Duration) -> Option<bool> {
    let mut ages = files::list(directory, EXTENSION).filter_map(|path| age(&read::<Proof>(&path)?.at)).peekable();
    ages.peek()?;
    Some(ages.any(|age| age < limit))
}

/// Deletes the proof of one commit.
pub(super) fn delete(directory: &Path, commit: &CommitId) -> Result<(), StoreError> {
    files::delete(&directory.join(file_name(commit)))
}

/// Deletes all proofs.
pub(super) fn delete_all(directory: &Path) -> Result<(), StoreError> {
    files::list(directory, EXTENSION).try_for_each(|path| files::delete(&path))
}
