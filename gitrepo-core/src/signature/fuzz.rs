//! The property of signatures, for fuzzing: the function panics on input that breaks it.

use git2::ObjectType;
use git2::Oid;

use super::Evidence;
use super::On;
use super::Requirement;
use super::TrustFile;
use super::verify;
use crate::spec::CommitId;

const SIGNERS: &str = include_str!("vectors/allowed_signers");
const KEYS: &str = include_str!("vectors/openpgp/keys.asc");

/// After the keys were made, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// A commit as a server may send it, which none of the trusted keys has signed: it is refused.
///
/// # Panics
///
/// If it counts as signed.
pub fn unsigned_commit(content: &[u8]) {
    let Ok(id) = Oid::hash_object(ObjectType::Commit, content) else { return };
    let Ok(commit) = id.as_bytes().try_into().map(CommitId::from_bytes) else { return };
    let file = |text: &str| Some(TrustFile { path: "/etc/gitrepo/keys".to_owned(), text: text.to_owned() });
    let requirement = Requirement { on: On::Commit, allowed_signers: file(SIGNERS), openpgp_keys: file(KEYS) };
    let verdict = verify(&requirement, &Evidence { commit, content, tag: None }, NOW);
    assert!(verdict.is_err(), "{verdict:?}");
}
