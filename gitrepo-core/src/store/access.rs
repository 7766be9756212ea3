//! Proofs that a credential may read a repository, and the remote's last answers to it.
//!
//! A snapshot is stored once and served to many, so each credential must prove its access: by asking the remote, or by
//! a recent proof of the same credential for the same repository. "No credential" is a credential like any other. A
//! credential is identified by an HMAC with this node's key, never by anything that helps to guess it.

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
use super::digest::sha256_hex;
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
use crate::remote::Resolved;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;

mod credential_id;
mod node_key;

pub use credential_id::CredentialId;
use node_key::NodeKey;

const PROOF_FILE: &str = "proof.json";
const FILE_LIMIT: u64 = 64 * 1024;

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

    /// Returns the id of these credentials for this repository on this node. It covers every secret key, including
    /// trust anchors.
    pub fn credential(&self, url: &RepositoryUrl, credentials: &Credentials) -> Result<CredentialId, StoreError> {
        let key = self.key.get(&self.layout)?;
        Ok(CredentialId::new(key, url, credentials))
    }

    /// Whether this credential proved access to its repository within the last `ttl`. `false` if unknown.
    pub fn proof(&self, credential: &CredentialId, ttl: Duration) -> bool {
        let proof = self.read::<Proof>(credential, PROOF_FILE);
        proof.and_then(|proof| age(&proof.at)).is_some_and(|age| age < ttl)
    }

    /// Deletes the credential's proof after the remote has refused it. Its answers are kept, since they are useless
    /// without a proof.
    pub fn forget(&self, credential: &CredentialId) -> Result<(), StoreError> {
        let path = self.directory(credential).join(PROOF_FILE);
        optional(std::fs::remove_file(&path).map_err(StoreError::io("delete", &path))).map(|_| ())
    }

    /// Returns the remote's last answer to this credential. It is not a proof.
    pub fn resolution(&self, credential: &CredentialId, revision: &Revision) -> Option<Resolution> {
        let answer = self.read::<Answer>(credential, &answer_file(revision))?;
        Some(Resolution { age: age(&answer.at), resolved: answer.resolved })
    }

    /// Records that the remote has just answered this credential, which proves its access to the repository. Also
    /// records the answer, unless the revision is a commit id.
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
    /// The proof gives the age within this boot. From earlier boots, only the wall clock does: if it jumped, a remote
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
        if let Some(age) = read::<Proof>(&directory.join(PROOF_FILE)).and_then(|proof| age(&proof.at)) {
            return age < unused;
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

/// Returns `None` for a missing, unreadable or malformed file: then the remote is asked.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let json = durable::read(path, FILE_LIMIT).ok()?;
    serde_json::from_slice(&json).ok()
}

fn age(moment: &Moment) -> Option<Duration> {
    moment.age(&Moment::now().ok()?)
}

fn answer_file(revision: &Revision) -> String {
    format!("{}.json", sha256_hex(revision.to_string()))
}

fn turn_name(credential: &CredentialId, tenant: &str) -> LockName {
    LockName::Ask(sha256_hex(format!("{} {tenant}", credential.as_str())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::credentials::Secret;
    use crate::spec::CommitId;
    use crate::store::Store;
    use crate::store::fixture::commit;
    use crate::store::fixture::impatient;
    use crate::store::fixture::store;
    use crate::store::fixture::url;

    const TTL: Duration = Duration::from_secs(300);

    fn token(token: &str) -> Credentials {
        let keys = BTreeMap::from([("token".to_owned(), Secret::new(token.to_owned()))]);
        Credentials::from_secret_keys(keys).unwrap()
    }

    fn main() -> Revision {
        Revision::Named("main".to_owned())
    }

    fn resolved(commit: CommitId) -> Resolved {
        Resolved { commit, reference: Some("refs/heads/main".to_owned()) }
    }

    /// The right of a tenant to ask, if it is free in time.
    fn asking_of(access: &Access, credential: &CredentialId, cancel: &Cancel) -> Result<ResolveLock, StoreError> {
        match access.resolve_lock_unless(credential, "", cancel, || Ok(None::<()>))? {
            Turn::Ours(lock) => Ok(lock),
            Turn::Done(()) => unreachable!("no answer is looked for"),
        }
    }

    #[test]
    fn s12_a_proof_counts_for_one_credential_and_one_repository() {
        let (_place, store) = store();
        let access = store.access();
        let other_url = RepositoryUrl::parse("https://git.example.com/group/other.git").unwrap();
        let proven = access.credential(&url(), &token("a")).unwrap();
        let others = [
            access.credential(&url(), &token("b")).unwrap(),
            access.credential(&url(), &Credentials::none()).unwrap(),
            access.credential(&other_url, &token("a")).unwrap(),
            access.credential(&other_url, &Credentials::none()).unwrap(),
        ];
        assert_eq!(others.iter().chain([&proven]).collect::<BTreeSet<_>>().len(), 5);
        access.record_answer(&proven, &main(), &resolved(commit(1))).unwrap();
        assert!(access.proof(&proven, TTL));
        for other in &others {
            assert!(!access.proof(other, TTL));
            assert_eq!(access.resolution(other, &main()), None);
        }
    }

    #[test]
    fn a_proof_ends_with_its_lifetime_the_boot_or_a_refusal() {
        let (_place, store) = store();
        let access = store.access();
        let credential = access.credential(&url(), &Credentials::none()).unwrap();
        assert!(!access.proof(&credential, TTL));
        access.forget(&credential).unwrap();
        access.record_answer(&credential, &main(), &resolved(commit(1))).unwrap();
        assert!(access.proof(&credential, TTL));
        assert!(!access.proof(&credential, Duration::ZERO));

        let path = access.directory(&credential).join(PROOF_FILE);
        let proof = fs::read_to_string(&path).unwrap();
        let boot = crate::store::BootId::current().unwrap().to_string();
        let reboot = proof.replace(&boot, &crate::store::BootId::other().to_string());
        for void in [reboot.as_str(), "", "{}"] {
            fs::write(&path, void).unwrap();
            assert!(!access.proof(&credential, TTL), "{void}");
        }
        fs::write(&path, proof).unwrap();
        assert!(access.proof(&credential, TTL));

        access.forget(&credential).unwrap();
        assert!(!access.proof(&credential, TTL));
        assert_eq!(access.resolution(&credential, &main()).unwrap().resolved, resolved(commit(1)));
    }

    #[test]
    fn r11_a_sweep_deletes_a_long_unused_credential_unless_it_is_asking() {
        let (_place, store) = store();
        let access = store.access();
        let [used, asking, old, older_boot] = ["a", "b", "c", "d"].map(|name| {
            let credential = access.credential(&url(), &token(name)).unwrap();
            access.record_answer(&credential, &main(), &resolved(commit(1))).unwrap();
            credential
        });
        let boot = crate::store::BootId::current().unwrap().to_string();
        for credential in [&asking, &old, &older_boot] {
            let path = access.directory(credential).join(PROOF_FILE);
            let proof = fs::read_to_string(&path).unwrap();
            fs::write(&path, proof.replace(&boot, &crate::store::BootId::other().to_string())).unwrap();
        }
        // Changing the files also changes the directory, so its time is set last.
        for credential in [&asking, &old] {
            let directory = access.directory(credential);
            let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            for path in files.iter().chain([&directory]) {
                let long_ago = std::time::SystemTime::now() - 2 * TTL;
                fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
            }
        }
        let turn = asking_of(access, &asking, &impatient()).unwrap();
        assert_eq!(access.sweep_unused(TTL).unwrap(), 1);
        for (credential, known) in [(&used, true), (&asking, true), (&old, false), (&older_boot, true)] {
            assert_eq!(access.resolution(credential, &main()).is_some(), known);
        }
        drop(turn);
        assert_eq!(access.sweep_unused(TTL).unwrap(), 1);
        assert_eq!(access.sweep_unused(Duration::ZERO).unwrap(), 2);
        access.record_answer(&old, &main(), &resolved(commit(1))).unwrap();
        assert!(access.proof(&old, TTL));
    }

    #[test]
    fn r11_an_answer_survives_a_reboot_but_its_age_is_then_unknown() {
        let (_place, store) = store();
        let access = store.access();
        let credential = access.credential(&url(), &Credentials::none()).unwrap();
        for digit in [1, 2] {
            access.record_answer(&credential, &main(), &resolved(commit(digit))).unwrap();
        }
        let answer = access.resolution(&credential, &main()).unwrap();
        assert_eq!(answer.resolved, resolved(commit(2)));
        assert!(answer.age.is_some_and(|age| age < TTL));
        assert_eq!(access.resolution(&credential, &Revision::Named("other".to_owned())), None);

        let path = access.directory(&credential).join(answer_file(&main()));
        let (boot, other) = (crate::store::BootId::current().unwrap(), crate::store::BootId::other());
        let json = fs::read_to_string(&path).unwrap().replace(&boot.to_string(), &other.to_string());
        fs::write(&path, json).unwrap();
        let answer = access.resolution(&credential, &main()).unwrap();
        assert_eq!((answer.resolved, answer.age), (resolved(commit(2)), None));
    }

    #[test]
    fn many_processes_create_one_key_in_one_file() {
        let (place, _) = store();
        let root = place.path().join("store");
        let names: BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| Store::open(&root).unwrap().access().credential(&url(), &token("canary")).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(names.len(), 1);
        let key = root.join("access/key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(root.join("access")).unwrap().count(), 1);

        fs::write(&key, "torn").unwrap();
        let renamed = Store::open(&root).unwrap().access().credential(&url(), &token("canary")).unwrap();
        assert!(!names.contains(&renamed), "with a new key, every credential must prove its access again");
    }

    #[test]
    fn s13_no_secret_is_on_disk_or_printed() {
        let (place, store) = store();
        let credential = store.access().credential(&url(), &token("canary")).unwrap();
        store.access().record_answer(&credential, &main(), &resolved(commit(1))).unwrap();
        let mut directories = vec![place.path().to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let content = fs::read(&path).unwrap();
                    assert!(!content.windows(6).any(|window| window == b"canary"), "{path:?}");
                }
            }
        }
        assert!(!format!("{store:?} {credential:?}").contains("canary"));
    }

    #[test]
    fn s12_a_proof_and_its_refusal_count_in_every_store_of_the_node() {
        let (branch, (place, main)) = (main(), store());
        let roots = ["one", "two"].map(|name| place.path().join(name));
        let [one, two] = [&roots[0], &roots[1]].map(|root| Store::open_beside(root, &main).unwrap());
        let credential = one.access().credential(&url(), &token("canary")).unwrap();
        assert_eq!(two.access().credential(&url(), &token("canary")).unwrap(), credential);
        one.access().record_answer(&credential, &branch, &resolved(commit(1))).unwrap();
        for store in [&one, &two, &main, &Store::open(main.root()).unwrap()] {
            assert!(store.access().proof(&credential, TTL));
            assert!(store.access().resolution(&credential, &branch).is_some());
        }
        let asking = asking_of(one.access(), &credential, &Cancel::new()).unwrap();
        assert!(asking_of(two.access(), &credential, &impatient()).is_err());
        drop(asking);
        two.access().forget(&credential).unwrap();
        assert!([&one, &two, &main].iter().all(|store| !store.access().proof(&credential, TTL)));
        assert!([&one, &two].iter().all(|store| !store.root().join("access").exists()));
        assert!(one.sweep(TTL, &[]).failures.is_empty());
    }

    #[test]
    fn a_process_that_waits_for_an_answer_shares_it() {
        let (_place, store) = store();
        let access = store.access();
        let credential = access.credential(&url(), &Credentials::none()).unwrap();
        let asking = asking_of(access, &credential, &Cancel::new()).unwrap();
        assert!(asking_of(access, &credential, &impatient()).is_err());
        let turn = access.resolve_lock_unless(&credential, "", &Cancel::new(), || Ok(Some("answer"))).unwrap();
        assert!(matches!(turn, Turn::Done("answer")));
        let other = access.resolve_lock_unless(&credential, "other", &impatient(), || Ok(Some("answer"))).unwrap();
        assert!(matches!(other, Turn::Ours(_)), "another tenant does not wait");
        drop(asking);
        let turn = access.resolve_lock_unless(&credential, "", &Cancel::new(), || Ok(None::<()>)).unwrap();
        assert!(matches!(turn, Turn::Ours(_)));
    }
}
