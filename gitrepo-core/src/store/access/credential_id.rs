//! The id of a credential.

use std::fmt;

use hmac::Mac;
use serde::Deserialize;
use serde::Serialize;

use crate::credentials::Credentials;
use crate::digest;
use crate::spec::RepositoryUrl;

use super::node_key::Key;

/// Identifies a credential for a repository: an HMAC-SHA256 with the node's key over the canonical URL and every secret
/// key with its value. It reveals nothing without the node's key, and no other credential has the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialId(String);

impl CredentialId {
    pub(super) fn new(key: &Key, url: &RepositoryUrl, credentials: &Credentials) -> Self {
        let url = url.canonical();
        let secrets = credentials.secret_keys().iter().flat_map(|(name, secret)| [name.as_str(), secret.expose()]);
        let mut mac = key.mac();
        let fields = std::iter::once(url.as_str()).chain(secrets).map(str::as_bytes);
        digest::length_prefixed(fields, |part| mac.update(part));
        Self(digest::hex(&mac.finalize().into_bytes()))
    }

    /// Returns the id as 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CredentialId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The id becomes part of a path, and a record could contain anything.
        if digest::is_hex(&text, 64) { Ok(Self(text)) } else { Err(format!("{text:?} is not a credential's id")) }
    }
}

impl From<CredentialId> for String {
    fn from(id: CredentialId) -> Self {
        id.0
    }
}
