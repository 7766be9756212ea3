//! Errors in a secret, and in the host key of a server.

use serde::Deserialize;
use serde::Serialize;

use super::host_keys::SourceLine;
use super::known_hosts::Malformed;
use super::secret_keys::SecretKey;
use super::ssh_key::SshKeyError;
use crate::error::Kind;

/// An unusable secret. Errors contain keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The secret exceeds the size of a Kubernetes Secret.
    #[error("the secret's keys and values together have {length} bytes; at most {} are allowed", super::SECRET_BYTES)]
    TooLarge {
        /// In bytes.
        length: usize,
    },
    /// There is no key of that name.
    #[error("unknown secret key {key:?}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// As given.
        key: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// There is no key of that name, but there is the one that is probably meant, such as the private key beside a public
    /// one.
    #[error("unknown secret key {key:?}; the secret also has {nearest:?}: leave {key:?} out")]
    NotNeeded {
        /// As given.
        key: String,
        /// The key that the secret has.
        nearest: String,
    },
    /// The prefix of a key's name is not a host.
    #[error("secret key {key:?}: {prefix:?} is not a host name")]
    Prefix {
        /// As given.
        key: String,
        /// The prefix.
        prefix: String,
    },
    /// Two spellings of one key.
    #[error("the secret has {first:?} and {second:?}, which mean the same: leave one out")]
    Twice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A value for a header or a login would end it early, and could inject another.
    #[error("secret key {key:?} has a line break or another character in it that cannot be sent")]
    Unsendable {
        /// As given.
        key: String,
    },
    /// The private key is not usable.
    #[error("secret key {key:?} cannot be used")]
    SshKey {
        /// As given.
        key: String,
        /// The cause.
        #[source]
        source: SshKeyError,
    },
    /// The private key is encrypted, and there is no passphrase.
    #[error("the private key in {key:?} is encrypted: add its passphrase to the secret as {passphrase:?}")]
    PassphraseMissing {
        /// The private key's name.
        key: String,
        /// The name of the passphrase's key.
        passphrase: String,
    },
    /// A key requires another one.
    #[error("the secret has {key:?} but no {missing:?}{hint}")]
    Incomplete {
        /// The key that is present.
        key: String,
        /// The key that is missing.
        missing: String,
        /// What else may have been meant.
        hint: &'static str,
    },
    /// Two ways to log in to the same host.
    #[error(
        "the secret has {token:?} and {password:?}, which are two ways to log in to one host: leave out the one that the \
         server does not expect"
    )]
    TwoLogins {
        /// One.
        token: String,
        /// The other.
        password: String,
    },
    /// There is no PEM certificate.
    #[error("secret key {key:?} has no certificate in PEM format (-----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// As given.
        key: String,
    },
    /// A certificate is damaged.
    #[error("secret key {key:?}: its certificate {number} is damaged; put the unchanged file into the secret")]
    DamagedCertificate {
        /// As given.
        key: String,
        /// Counted from 1.
        number: usize,
    },
    /// The private key of the client certificate is not usable.
    #[error("secret key {key:?} {reason}")]
    TlsKey {
        /// As given.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Every line is malformed.
    #[error("secret key {key:?} has no line in the format of known_hosts")]
    KnownHosts {
        /// As given.
        key: String,
        /// The first line and the reason.
        #[source]
        source: Malformed,
    },
}

impl CredentialError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

/// Why a server is not trusted. `key` is a type and a fingerprint, as printed by OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HostKeyError {
    /// No key of the server is known, or only keys of other types.
    #[error(
        "the SSH host key of {host} is unknown{}: it presents {key}; compare that with what its operator publishes, and if \
         it is right add this line to known_hosts, in the secret or the configured file: {line}",
        other_types(known)
    )]
    Unknown {
        /// As in a `known_hosts` file.
        host: String,
        /// The key that it presents.
        key: String,
        /// Types of its known keys.
        known: Vec<String>,
        /// The line to add once its operator confirms the fingerprint.
        line: String,
    },
    /// The known key of the server is a different one.
    #[error(
        "the SSH host key of {host} has changed: it presents {key}, but {origin} has {known}; somebody may be between you \
         and the server; only if its operator confirms the new key, put this line there instead: {line}"
    )]
    Changed {
        /// As in a `known_hosts` file.
        host: String,
        /// The key that it presents.
        key: String,
        /// The known key.
        known: String,
        /// The source of the known key.
        origin: SourceLine,
        /// The replacement line, once its operator confirms the fingerprint.
        line: String,
    },
    /// Its key is revoked.
    #[error("the SSH host key of {host} is revoked by {origin}: it presents {key}")]
    Revoked {
        /// As in a `known_hosts` file.
        host: String,
        /// The key that it presents.
        key: String,
        /// The source of the revocation.
        origin: SourceLine,
    },
    /// The server is known only through an authority, and host certificates are not supported.
    #[error(
        "{host} is known only through an SSH certificate authority ({origin}), which is not supported: it presents {key}; \
         if that is right, add this line to known_hosts, in the secret or the configured file: {line}"
    )]
    OnlyCertAuthority {
        /// As in a `known_hosts` file.
        host: String,
        /// The key that it presents.
        key: String,
        /// The source of the authority.
        origin: SourceLine,
        /// The line to add once its operator confirms the fingerprint.
        line: String,
    },
}

impl HostKeyError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        Kind::Unauthenticated
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => {
            let names: Vec<_> = SecretKey::ALL.iter().map(|key| key.name()).collect();
            format!("; there are {}, each also as HOST.KEY for another host", names.join(", "))
        }
    }
}

fn other_types(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (only its keys of type {} are known)", known.join(", ")) }
}
