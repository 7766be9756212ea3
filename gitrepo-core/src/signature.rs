//! Signatures of commits and tags, checked against the keys that the admin trusts.
//!
//! Everything here works on the raw bytes of objects whose ids were computed from them. It runs in the confined verifier,
//! without network, secret, `ssh-keygen` or `gpg`: OpenSSL does the arithmetic. Nothing is taken from a repository but the
//! signature: no key, no name and no configuration.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::digest;
use crate::error::Cause;
use crate::error::Kind;
use crate::object;
use crate::spec::CommitId;

mod armor;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod object_signature;
mod openpgp;
mod public_key;
mod ssh;

use object_signature::Format;
use object_signature::ObjectSignature;

pub(crate) use openpgp::read_keys as read_openpgp_keys;

/// Longest signature with its armor that is read, in bytes. One with a certificate has a few thousand.
const LONGEST: usize = 64 * 1024;

/// The version of the check. Raise it with every change that refuses more: what an earlier one accepted is then checked
/// again, and no verdict outlives the defect that led to it.
const CHECK: u32 = 2;

/// Which object must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum On {
    /// The commit.
    Commit,
    /// The annotated tag that led to the commit.
    Tag,
    /// One of the two.
    #[default]
    Either,
}

impl On {
    /// Whether a signature of the commit counts.
    pub(crate) fn takes_commits(self) -> bool {
        self != Self::Tag
    }

    /// Whether a signature of the tag counts.
    pub(crate) fn takes_tags(self) -> bool {
        self != Self::Commit
    }
}

/// What a commit needs before its tree is shown: the content of the files that the admin named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Which object must be signed.
    pub on: On,
    /// A file of trusted SSH keys (ssh-keygen(1), "ALLOWED SIGNERS").
    pub allowed_signers: Option<TrustFile>,
    /// A file of trusted OpenPGP keys, armored.
    pub openpgp_keys: Option<TrustFile>,
}

/// A file of public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustFile {
    /// Its path, for messages.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl Requirement {
    /// Names what is required: another keys file, another content of it, or a stricter check is another requirement.
    pub(crate) fn digest(&self) -> String {
        self.digest_by(CHECK)
    }

    fn digest_by(&self, check: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("gitrepo signatures {check} {:?}", self.on));
        for file in [&self.allowed_signers, &self.openpgp_keys] {
            let text = file.as_ref().map(|file| file.text.as_str());
            hash.update(format!(" {:?}:", text.map(str::len)));
            hash.update(text.unwrap_or_default());
        }
        digest::hex(&hash.finalize())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.on {
            On::Commit => "a signature on the commit",
            On::Tag => "a signature on the annotated tag that names it",
            On::Either => "a signature on the commit or on the annotated tag that names it",
        };
        let files = self.allowed_signers.iter().chain(&self.openpgp_keys);
        let files: Vec<&str> = files.map(|file| file.path.as_str()).collect();
        write!(f, "{what} by a key of {}", files.join(" or "))
    }
}

/// The objects that may be signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// The commit's id.
    pub(crate) commit: CommitId,
    /// The commit.
    pub(crate) content: &'a [u8],
    /// The annotated tag that the remote named, and the full name of its ref.
    pub(crate) tag: Option<(&'a [u8], &'a str)>,
}

/// Asks the verifier to check a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignatureRequest {
    pub(crate) requirement: Requirement,
    pub(crate) commit: CommitId,
    /// The commit's content; `None` if it is in the verifier's repository.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) tag: Option<SentTag>,
}

/// An annotated tag that led to a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SentTag {
    pub(crate) id: CommitId,
    /// The full name of its ref.
    pub(crate) reference: String,
    pub(crate) content: Vec<u8>,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// The key's fingerprint, as its own tools print it.
    pub key: String,
    /// Whose key it is, by the admin's file.
    pub name: String,
    /// Whether the tag was signed, and not the commit.
    pub tag: bool,
    /// The last second at which the key is good, since 1970; `None` if it does not expire.
    pub until: Option<u64>,
}

/// A commit without the required signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SignatureError {
    /// No signature that counts.
    #[error("commit {commit} is refused: {reason}; required is {required}")]
    Refused {
        /// The commit.
        commit: CommitId,
        /// What was found in place of a good signature, with the key.
        reason: String,
        /// What is required, and by which files.
        required: String,
    },
    /// The commit or the tag is not here, or not what its id says.
    #[error("the signature of commit {commit} cannot be checked")]
    Unreadable {
        /// The commit.
        commit: CommitId,
        /// What is missing.
        #[source]
        source: Cause,
    },
}

impl SignatureError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. } => Kind::PermissionDenied,
            Self::Unreadable { .. } => Kind::Unavailable,
        }
    }
}

/// Why one object's signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    /// The key's fingerprint, if one signed at all.
    key: Option<String>,
    reason: String,
}

impl Flaw {
    fn new(reason: impl Into<String>) -> Self {
        Self { key: None, reason: reason.into() }
    }

    fn of_key(key: &str, reason: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), reason: reason.into() }
    }

    fn describe(&self, object: &str) -> String {
        match &self.key {
            Some(key) => format!("{object} is signed with the key {key}, {}", self.reason),
            None => format!("{object} {}", self.reason),
        }
    }
}

/// Checks that a commit has the required signature. `now` is in seconds since 1970.
///
/// The ids of the objects must have been computed from their content.
///
/// # Errors
///
/// [`SignatureError::Refused`].
pub(crate) fn verify(requirement: &Requirement, evidence: &Evidence<'_>, now: u64) -> Result<Signer, SignatureError> {
    let mut flaws = Vec::new();
    if requirement.on.takes_commits() {
        let signature = object_signature::of_commit(evidence.content);
        match signature.and_then(|signature| check(requirement, signature, now)) {
            Ok(signer) => return Ok(Signer { tag: false, ..signer }),
            Err(flaw) => flaws.push(flaw.describe("the commit")),
        }
    }
    if requirement.on.takes_tags() {
        match evidence.tag {
            Some((tag, reference)) => match check_tag(requirement, evidence.commit, tag, reference, now) {
                Ok(signer) => return Ok(Signer { tag: true, ..signer }),
                Err(flaw) => flaws.push(flaw.describe(&format!("the tag {reference}"))),
            },
            None => flaws.push("no annotated tag led to it".to_owned()),
        }
    }
    let required = requirement.to_string();
    Err(SignatureError::Refused { commit: evidence.commit, reason: flaws.join(", and "), required })
}

/// The beginning of the name of a tag's ref.
pub(crate) const TAGS: &str = "refs/tags/";

/// Checks an annotated tag: that it is the one that its ref says, that it names the commit itself, and its signature. A
/// signed tag under another name would let a server pass an old version off as a new one.
fn check_tag(
    requirement: &Requirement,
    commit: CommitId,
    tag: &[u8],
    reference: &str,
    now: u64,
) -> Result<Signer, Flaw> {
    match object::target_of(tag) {
        Some((target, git2::ObjectType::Commit)) if target.as_bytes() == commit.as_bytes() => {}
        Some((_, git2::ObjectType::Tag)) => return Err(Flaw::new("names another tag and not the commit itself")),
        _ => return Err(Flaw::new("does not name the commit")),
    }
    let name = object::tag_name(tag).ok_or_else(|| Flaw::new("has no name of its own"))?;
    // Another namespace is another name: `refs/tags/sub/v2` need not be what `v2` is.
    if reference.as_bytes().strip_prefix(TAGS.as_bytes()) != Some(name) {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Flaw::new(format!("is the tag {name:?} under another name")));
    }
    check(requirement, object_signature::of_tag(tag)?, now)
}

fn check(requirement: &Requirement, signature: ObjectSignature, now: u64) -> Result<Signer, Flaw> {
    let ObjectSignature { format, armored, payload, time } = signature;
    match (format, &requirement.allowed_signers, &requirement.openpgp_keys) {
        (Format::Ssh, Some(file), _) => ssh::verify(&armored, &payload, &file.text, time.unwrap_or(now)),
        (Format::Ssh, None, _) => Err(Flaw::new("is signed with an SSH key, and no allowedSigners are configured")),
        (Format::OpenPgp, _, Some(file)) => openpgp::verify(&armored, &payload, &file.text, now),
        (Format::OpenPgp, _, None) => {
            let flaw = |key: String| Flaw::of_key(&key, "which is of OpenPGP, and no openpgpKeys are configured");
            let nameless = || Flaw::new("is signed with an OpenPGP key, and no openpgpKeys are configured");
            Err(openpgp::key_of(&armored).map_or_else(nameless, flaw))
        }
        (Format::X509, ..) => Err(Flaw::new("is signed with an X.509 certificate, which cannot be required")),
    }
}

#[cfg(test)]
mod tests;
