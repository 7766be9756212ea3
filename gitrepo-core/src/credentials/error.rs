//! What can be wrong with a secret, and with the key of a server.

use serde::Deserialize;
use serde::Serialize;

use super::host_keys::Origin;
use super::known_hosts::Malformed;
use super::secret_keys::Key;
use super::ssh_key::SshKeyError;
use crate::error::Kind;

/// A secret that cannot be used. Names keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// More than a Secret of Kubernetes can hold.
    #[error("the secret's keys and values together have {length} bytes; at most {} are allowed", super::SECRET_BYTES)]
    TooLarge {
        /// In bytes.
        length: usize,
    },
    /// No key of that name is known.
    #[error("unknown secret key {key:?}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// As given.
        key: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// What stands before the key's name is not a host.
    #[error("secret key {key:?}: {prefix:?} is not a host name")]
    Prefix {
        /// As given.
        key: String,
        /// What stands there.
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
    /// Nothing, or only blanks.
    #[error("secret key {key:?} is empty")]
    Empty {
        /// As given.
        key: String,
    },
    /// A value that goes into a header or a login would end it early, and could go on with one of its own.
    #[error("secret key {key:?} has a line break or another character in it that cannot be sent")]
    Unsendable {
        /// As given.
        key: String,
    },
    /// Not a usable private key.
    #[error("secret key {key:?} cannot be used")]
    SshKey {
        /// As given.
        key: String,
        /// Why.
        #[source]
        source: SshKeyError,
    },
    /// The private key is encrypted and nothing decrypts it.
    #[error("the private key in {key:?} is encrypted: add its passphrase to the secret as {passphrase:?}")]
    PassphraseMissing {
        /// The private key's.
        key: String,
        /// The one to add.
        passphrase: String,
    },
    /// One key makes no sense without another.
    #[error("the secret has {key:?} but no {missing:?}{hint}")]
    Incomplete {
        /// Which is there.
        key: String,
        /// Which is not.
        missing: String,
        /// What else could have been meant.
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
    /// No PEM certificate.
    #[error("secret key {key:?} has no certificate in PEM format (-----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// As given.
        key: String,
    },
    /// A line that a mistake has made useless: it could be the one that revokes a key.
    #[error("secret key {key:?} is not in the format of known_hosts")]
    KnownHosts {
        /// As given.
        key: String,
        /// Where, and why.
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

/// Why a server is not believed. `key` is a type and a fingerprint, as OpenSSH prints them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostKeyError {
    /// Nothing is known of it, or only keys of other types.
    #[error(
        "the SSH host key of {host} is unknown{}: it presents {key}; compare that with what its operator publishes, and if \
         it is right add this line to known_hosts, in the secret or the configured file: {line}",
        other_types(known)
    )]
    Unknown {
        /// As in a `known_hosts` file.
        host: String,
        /// What it presents.
        key: String,
        /// Types of the keys that it is known by.
        known: Vec<String>,
        /// To be added, once its operator confirms the fingerprint.
        line: String,
    },
    /// It is known by another key.
    #[error(
        "the SSH host key of {host} has changed: it presents {key}, but {origin} has {known}; somebody may be between you \
         and the server; only if its operator confirms the new key, put this line there instead: {line}"
    )]
    Changed {
        /// As in a `known_hosts` file.
        host: String,
        /// What it presents.
        key: String,
        /// What it is known by.
        known: String,
        /// Who says so.
        origin: Origin,
        /// To be put there instead, once its operator confirms the fingerprint.
        line: String,
    },
    /// Its key must not be believed.
    #[error("the SSH host key of {host} is revoked by {origin}: it presents {key}")]
    Revoked {
        /// As in a `known_hosts` file.
        host: String,
        /// What it presents.
        key: String,
        /// Who says so.
        origin: Origin,
    },
    /// It is known only through an authority, and certificates of hosts are not understood.
    #[error(
        "{host} is known only through an SSH certificate authority ({origin}), which is not supported: it presents {key}; \
         if that is right, add this line to known_hosts, in the secret or the configured file: {line}"
    )]
    OnlyCertAuthority {
        /// As in a `known_hosts` file.
        host: String,
        /// What it presents.
        key: String,
        /// Who says so.
        origin: Origin,
        /// To be added, once its operator confirms the fingerprint.
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
            let names: Vec<_> = Key::ALL.iter().map(|key| key.name()).collect();
            format!("; there are {}, each also as HOST.KEY for another host", names.join(", "))
        }
    }
}

fn other_types(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (only its keys of type {} are known)", known.join(", ")) }
}
