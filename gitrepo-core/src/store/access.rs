//! Proofs that a credential may read a commit, and the remote's last answers to it.
//!
//! A snapshot is stored once and served to many, so each credential must prove its access to the commit: by asking the
//! remote, or by a recent proof of the same credential for the same commit of the same repository. "No credential" is a
//! credential like any other. A credential is identified by an HMAC with this node's key, never by anything that helps
//! to guess it.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::Turn;
use super::clock::Moment;
use super::durable;
use super::durable::Durability;
use super::error::optional;
use super::layout::Layout;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::Mode;
use super::target::hashes_in;
use crate::cancel::Cancel;
use crate::credentials::Credentials;
use crate::digest::sha256_hex;
use crate::remote::Resolved;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;

mod credential_id;
mod files;
mod node_key;
mod proof;
mod verdict;

pub use credential_id::CredentialId;
use node_key::NodeKey;
pub use proof::Evidence;
use proof::Proof;
pub(crate) use verdict::Judged;
pub(crate) use verdict::Verdict;

/// The file with the moment of the remote's last refusal.
const REFUSED: &str = "refused";

const FILE_LIMIT: u64 = 64 * 1024;

/// The extension of an answer's file name.
const ANSWER: &str = "json";

/// The proofs and answers of all credentials: `access/<credential>/`, one directory per pair of repository and
/// credential.
///
/// Only the node's key is durable. A proof is void after a reboot anyway, and an answer lost in a power failure is
/// requested again.
#[derive(Debug)]
pub struct Access {
    layout: Arc<Layout>,
    key: NodeKey,
}

/// The remote's last answer to this credential about a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The commit, and the ref that led to it.
    pub resolved: Resolved,
    /// The age of the answer; `None` if it is from before a reboot.
    pub age: Option<Duration>,
}

/// The exclusive right of a tenant to ask a remote with one credential. Tenants that share a credential, such as none,
/// do not wait for each other: the remote may be slow for one of them.
#[derive(Debug)]
pub struct ResolveLock {
    _turn: Lock,
    /// Keeps the credential from being swept.
    _credential: Lock,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    at: Moment,
    resolved: Resolved,
}

impl Access {
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, key: NodeKey::default() }
    }

    /// Returns the id of these credentials for this repository on this node. It covers every secret key, including
    /// trust anchors.
    pub fn credential(&self, url: &RepositoryUrl, credentials: &Credentials) -> Result<CredentialId, StoreError> {
        let key = self.key.get(&self.layout)?;
        Ok(CredentialId::new(key, url, credentials))
    }

    /// Returns what proved within the last `ttl` of this boot that this credential may read the commit.
    pub fn proof(&self, credential: &CredentialId, commit: &CommitId, ttl: Duration) -> Option<Evidence> {
        proof::fresh(&self.directory(credential), commit, ttl)
    }

    /// Whether the remote has given out this commit to this credential in this boot, and refused neither since. Without
    /// that, a ref that stands at the commit is only a word about it.
    pub fn has_content(&self, credential: &CredentialId, commit: &CommitId) -> bool {
        proof::has_content(&self.directory(credential), commit)
    }

    /// Returns the commits that the remote once told or gave this credential, so that it may be told of them.
    pub(crate) fn commits(&self, credential: &CredentialId) -> Vec<CommitId> {
        proof::commits(&self.directory(credential))
    }

    /// Whether the remote ever gave out a commit of the repository to this credential. What it merely told was heard by a
    /// process that may say anything.
    pub(crate) fn has_any_content(&self, credential: &CredentialId) -> bool {
        proof::any_content(&self.directory(credential))
    }

    /// Deletes all of the credential's proofs after the remote has refused it. Its answers are kept, since they are
    /// useless without a proof.
    pub fn forget(&self, credential: &CredentialId) -> Result<(), StoreError> {
        let stamped = self.stamp(credential);
        proof::delete_all(&self.directory(credential)).and(stamped)
    }

    /// Deletes the credential's proof of one commit, which the remote no longer gives out.
    pub fn forget_commit(&self, credential: &CredentialId, commit: &CommitId) -> Result<(), StoreError> {
        let stamped = self.stamp(credential);
        proof::delete(&self.directory(credential), commit).and(stamped)
    }

    /// Deletes the remote's last answer about a revision, which no longer exists.
    pub fn forget_answer(&self, credential: &CredentialId, revision: &Revision) -> Result<(), StoreError> {
        files::delete(&self.directory(credential).join(answer_file(revision)))
    }

    /// Returns the remote's last answer to this credential. It is not a proof.
    pub fn resolution(&self, credential: &CredentialId, revision: &Revision) -> Option<Resolution> {
        let answer = self.read::<Answer>(credential, &answer_file(revision))?;
        Some(Resolution { age: age(&answer.at), resolved: answer.resolved })
    }

    /// Records what the remote has answered this credential about a revision, asked at `asked`. That proves its access to
    /// the commit: to its content if the revision is its id, otherwise only if the remote gave it out before.
    pub(crate) fn record_answer(
        &self,
        credential: &CredentialId,
        revision: &Revision,
        resolved: &Resolved,
        asked: &Moment,
    ) -> Result<(), StoreError> {
        if let Revision::Commit(commit) = revision {
            return self.record_content(credential, commit, Evidence::Commit, asked);
        }
        let answer = Answer { at: Moment::now()?, resolved: resolved.clone() };
        if self.write(credential, &answer_file(revision), &answer)? {
            files::bound(&self.directory(credential), ANSWER, BTreeSet::new)?;
        }
        let content = self.has_content(credential, &resolved.commit);
        self.record(credential, &resolved.commit, Proof { at: asked.clone(), by: Evidence::Ref, content })
    }

    /// Records that the remote, asked at `asked`, gave out a commit to this credential.
    pub(crate) fn record_content(
        &self,
        credential: &CredentialId,
        commit: &CommitId,
        by: Evidence,
        asked: &Moment,
    ) -> Result<(), StoreError> {
        self.record(credential, commit, Proof { at: asked.clone(), by, content: true })
    }

    /// Notes that the remote has just refused this credential, or a commit to it: a call that asked before must not record
    /// what it heard.
    fn stamp(&self, credential: &CredentialId) -> Result<(), StoreError> {
        self.write(credential, REFUSED, &Moment::now()?).map(drop)
    }

    /// Records a proof, unless a refusal came after the remote was asked. Drops old proofs of a credential that has many:
    /// for those commits the remote is asked again, and offered nothing that builds on them. Those that an answer needs
    /// stay.
    fn record(&self, credential: &CredentialId, commit: &CommitId, proof: Proof) -> Result<(), StoreError> {
        let refused = self.read::<Moment>(credential, REFUSED);
        if refused.is_some_and(|refused| proof.at.age(&refused).is_some()) {
            return Ok(());
        }
        if !self.write(credential, &proof::file_name(commit), &proof)? {
            return Ok(());
        }
        let directory = self.directory(credential);
        let answers = || files::list(&directory, ANSWER).filter_map(|path| read::<Answer>(&path));
        let needed = || answers().map(|answer| proof::file_name(&answer.resolved.commit)).collect();
        files::bound(&directory, proof::EXTENSION, needed)
    }

    /// Takes the exclusive right of a tenant to ask the remote with this credential. Waits for other holders, or until
    /// `done` finds an answer: a hundred pods with one credential ask once. `done` runs only while another process
    /// holds the lock, so check again after taking the lock.
    pub(crate) fn resolve_lock_unless<T>(
        &self,
        credential: &CredentialId,
        tenant: &str,
        cancel: &Cancel,
        done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<ResolveLock, T>, StoreError> {
        let locks = &self.layout.locks;
        match locks.acquire_unless(&turn_name(credential, tenant), Mode::Exclusive, cancel, done)? {
            Turn::Ours(turn) => {
                let credential = LockName::Resolve(credential.as_str().to_owned());
                let credential = locks.acquire(&credential, Mode::Shared, cancel)?;
                Ok(Turn::Ours(ResolveLock { _turn: turn, _credential: credential }))
            }
            Turn::Done(answer) => Ok(Turn::Done(answer)),
        }
    }

    /// Deletes the credentials that were not used for `unused`, and returns their number.
    ///
    /// The proofs give the age within this boot. From earlier boots, only the wall clock does: if it jumped, a remote
    /// is asked once more than needed.
    pub(crate) fn sweep_unused(&self, unused: Duration) -> Result<usize, StoreError> {
        let mut removed = 0;
        for name in hashes_in(&self.layout.access())? {
            let directory = self.layout.access().join(&name);
            if self.is_used(&directory, unused) {
                continue;
            }
            // A process that asks the remote holds this lock, and writes the answer into the directory.
            let lock = self.layout.locks.try_acquire(&LockName::Resolve(name), Mode::Exclusive)?;
            if lock.is_some() && !self.is_used(&directory, unused) {
                removed += usize::from(self.layout.trash.take(&directory)?.is_some());
            }
        }
        Ok(removed)
    }

    /// Whether a credential was used within the last `unused`. When in doubt, `true`.
    fn is_used(&self, directory: &Path, unused: Duration) -> bool {
        if let Some(is_used) = proof::any_younger(directory, unused) {
            return is_used;
        }
        let Ok(entries) = std::fs::read_dir(directory) else { return true };
        let files = entries.flatten().map(|entry| entry.metadata());
        let changed = files
            .chain([std::fs::metadata(directory)])
            .map(|metadata| metadata.and_then(|metadata| metadata.modified()));
        let mut ages = changed.map(|changed| changed.ok().and_then(|changed| changed.elapsed().ok()));
        ages.any(|age| age.is_none_or(|age| age < unused))
    }

    fn directory(&self, credential: &CredentialId) -> PathBuf {
        self.layout.access().join(credential.as_str())
    }

    fn read<T: DeserializeOwned>(&self, credential: &CredentialId, name: &str) -> Option<T> {
        read(&self.directory(credential).join(name))
    }

    /// Writes a file, and returns whether it is new.
    fn write(&self, credential: &CredentialId, name: &str, content: &impl Serialize) -> Result<bool, StoreError> {
        let directory = self.directory(credential);
        let path = directory.join(name);
        let is_new = !path.exists();
        let json = serde_json::to_vec(content).map_err(|error| StoreError::corrupt(&path, error))?;
        match durable::replace(&path, &json, Durability::Volatile) {
            Err(error) if error.is_not_found() => {
                durable::create_directories(&self.layout.access(), &directory)?;
                durable::replace(&path, &json, Durability::Volatile)
            }
            result => result,
        }
        .map(|()| is_new)
    }
}

/// Returns `None` for a missing, unreadable or malformed file: then the remote is asked.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let json = durable::read(path, FILE_LIMIT).ok()?;
    serde_json::from_slice(&json).ok()
}

fn age(moment: &Moment) -> Option<Duration> {
    moment.age(&Moment::now().ok()?)
}

fn answer_file(revision: &Revision) -> String {
    format!("{}.{ANSWER}", sha256_hex(revision.to_string()))
}

fn turn_name(credential: &CredentialId, tenant: &str) -> LockName {
    LockName::Ask(sha256_hex(format!("{} {tenant}", credential.as_str())))
}

#[cfg(test)]
mod tests;
