//! Proofs that a credential may read a repository, and what it last learnt there.
//!
//! A snapshot is stored once and served to many, so the right to it is proven by each: by asking the remote, or by a proof
//! that this same credential gave for this repository a short while ago. "No credential" is a credential like any other.
//! A credential is known by an HMAC with a key of this node, never by anything that would help to guess it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cancel::Cancel;
use crate::credentials::Credentials;
use crate::remote::Resolved;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::store::StoreError;
use crate::store::Turn;
use crate::store::clock::Moment;
use crate::store::digest::sha256_hex;
use crate::store::durable;
use crate::store::durable::Durability;
use crate::store::error::optional;
use crate::store::layout::Layout;
use crate::store::lock::Lock;
use crate::store::lock::LockName;
use crate::store::lock::Mode;

mod credential_id;
mod node_key;

pub use credential_id::CredentialId;
use node_key::NodeKey;

const PROOF_FILE: &str = "proof.json";
const FILE_LIMIT: u64 = 64 * 1024;

/// What is known of credentials: `access/<credential>/`, one directory for each pair of repository and credential.
///
/// Nothing here is durable but the node's key. A proof is void after a reboot anyway, and an answer that a power failure
/// takes away is asked for again.
#[derive(Debug)]
pub struct Access {
    layout: Arc<Layout>,
    key: NodeKey,
}

/// Where a revision stood when this credential last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The answer.
    pub resolved: Resolved,
    /// How long ago that was; `None` if it was before a reboot.
    pub age: Option<Duration>,
}

/// The turn to ask a remote with one credential.
#[derive(Debug)]
pub struct ResolveLock {
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    at: Moment,
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

    /// The name of these credentials, for this repository, on this node. Every secret key counts, trust anchors included.
    pub fn credential(&self, url: &RepositoryUrl, credentials: &Credentials) -> Result<CredentialId, StoreError> {
        let key = self.key.get(&self.layout)?;
        Ok(CredentialId::new(key, url, credentials))
    }

    /// This credential proved within the last `ttl` that it may read its repository. Where that cannot be known, it did
    /// not.
    pub fn proof(&self, credential: &CredentialId, ttl: Duration) -> bool {
        let proof = self.read::<Proof>(credential, PROOF_FILE);
        proof.and_then(|proof| age(&proof.at)).is_some_and(|age| age < ttl)
    }

    /// The remote has just refused this credential: what it proved before is void at once. What it learnt is kept, for
    /// it is worth nothing without a proof.
    pub fn forget(&self, credential: &CredentialId) -> Result<(), StoreError> {
        let path = self.directory(credential).join(PROOF_FILE);
        optional(std::fs::remove_file(&path).map_err(StoreError::io("delete", &path))).map(|_| ())
    }

    /// The last answer of the remote to this credential. It is no proof.
    pub fn resolution(&self, credential: &CredentialId, revision: &Revision) -> Option<Resolution> {
        let answer = self.read::<Answer>(credential, &answer_file(revision))?;
        Some(Resolution { age: age(&answer.at), resolved: answer.resolved })
    }

    /// The remote has just answered this credential, which proves that it may read the repository. A commit that was
    /// asked for by its id teaches nothing beyond that.
    pub fn record_answer(
        &self,
        credential: &CredentialId,
        revision: &Revision,
        resolved: &Resolved,
    ) -> Result<(), StoreError> {
        let at = Moment::now()?;
        if !matches!(revision, Revision::Commit(_)) {
            let answer = Answer { at: at.clone(), resolved: resolved.clone() };
            self.write(credential, &answer_file(revision), &answer)?;
        }
        self.write(credential, PROOF_FILE, &Proof { at })
    }

    /// The turn to ask the remote, waiting for others that ask with this credential.
    pub fn resolve_lock(&self, credential: &CredentialId, cancel: &Cancel) -> Result<ResolveLock, StoreError> {
        let lock = self.layout.locks.acquire(&lock_name(credential), Mode::Exclusive, cancel)?;
        Ok(ResolveLock { _lock: lock })
    }

    /// The turn to ask the remote, or what `done` finds while others ask: a hundred pods of one credential ask once.
    /// `done` is asked only while another holds the lock, so look once more when the turn is ours.
    pub fn resolve_lock_unless<T>(
        &self,
        credential: &CredentialId,
        cancel: &Cancel,
        done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<ResolveLock, T>, StoreError> {
        match self.layout.locks.acquire_unless(&lock_name(credential), Mode::Exclusive, cancel, done)? {
            Turn::Ours(lock) => Ok(Turn::Ours(ResolveLock { _lock: lock })),
            Turn::Done(answer) => Ok(Turn::Done(answer)),
        }
    }

    fn directory(&self, credential: &CredentialId) -> PathBuf {
        self.layout.access().join(credential.as_str())
    }

    /// A file that is not there, cannot be read or makes no sense says nothing: then the remote is asked.
    fn read<T: DeserializeOwned>(&self, credential: &CredentialId, name: &str) -> Option<T> {
        let json = durable::read(&self.directory(credential).join(name), FILE_LIMIT).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn write(&self, credential: &CredentialId, name: &str, content: &impl Serialize) -> Result<(), StoreError> {
        let directory = self.directory(credential);
        let path = directory.join(name);
        let json = serde_json::to_vec(content).map_err(|error| StoreError::corrupt(&path, error))?;
        match durable::replace(&path, &json, Durability::Volatile) {
            Err(error) if error.is_not_found() => {
                durable::create_directories(&self.layout.access(), &directory)?;
                durable::replace(&path, &json, Durability::Volatile)
            }
            result => result,
        }
    }
}

fn age(moment: &Moment) -> Option<Duration> {
    moment.age(&Moment::now().ok()?)
}

fn answer_file(revision: &Revision) -> String {
    format!("{}.json", sha256_hex(revision.to_string()))
}

fn lock_name(credential: &CredentialId) -> LockName {
    LockName::Resolve(credential.as_str().to_owned())
}
