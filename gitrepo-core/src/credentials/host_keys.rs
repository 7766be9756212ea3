//! Whether an SSH server is who it claims to be.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use super::HostCredential;
use super::forges;
use super::known_hosts;
use super::known_hosts::Entry;
use super::known_hosts::Malformed;
use super::known_hosts::Marker;
use super::known_hosts::host_name;
use crate::error::Kind;

/// What to do with a server of which nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checking {
    /// Refuse it.
    #[default]
    Strict,
    /// Believe it the first time, and hold it to that.
    AcceptNew,
}

/// The host keys that are believed, from up to four sources: the secret's `known_hosts`, the driver's file, what was
/// accepted as new, and the built-in keys of the large public forges.
///
/// The first source that knows a host decides: its keys are the only ones believed, and a later source can neither add
/// to them nor take away. A revoked key is refused whichever source revokes it.
///
/// A server on another port than 22 is `[host]:port`. Where nothing is known of that name, a key of the bare host name is
/// believed too, as OpenSSH does: whoever holds it is that host. That the bare name has *another* key says nothing.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostKeys {
    checking: Checking,
    secret: Option<String>,
    file: Option<String>,
    accepted: Option<String>,
}

/// Where a host key is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The secret's `known_hosts`.
    Secret,
    /// The file of the configuration's `hostKeys.file`.
    File,
    /// What [`Checking::AcceptNew`] accepted before.
    Accepted,
    /// This program.
    BuiltIn,
}

/// A line of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Which source.
    pub source: Source,
    /// Counted from 1.
    pub line: usize,
}

/// The key that a server presents, and has proven to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey<'a> {
    /// Its type, such as `ssh-ed25519`.
    pub kind: &'a str,
    /// The public key in SSH's wire format (RFC 4253, section 6.6).
    pub blob: &'a [u8],
}

/// Why a server is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Accepted {
    /// Its key is known.
    Known,
    /// Nothing was known of it, and [`Checking::AcceptNew`] is in force.
    New {
        /// To be kept, so that it is held to this key from now on.
        line: String,
    },
}

/// Why a server is not believed. `key` is a type and a fingerprint, as OpenSSH prints them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostKeyError {
    /// Nothing is known of it, or only keys of other types.
    #[error(
        "the SSH host key of {host} is unknown{}: it presents {key}; compare that with what its operator publishes, and if \
         it is right add this line to the secret's known_hosts: {line}",
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
         if that is right, add this line to the secret's known_hosts: {line}"
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

impl HostKeys {
    /// Believes the built-in keys only.
    pub fn new(checking: Checking) -> Self {
        Self { checking, ..Self::default() }
    }

    /// Believes first what the secret says of this host.
    #[must_use]
    pub fn with_secret(mut self, credential: &HostCredential<'_>) -> Self {
        self.secret = credential.known_hosts.map(str::to_owned);
        self
    }

    /// Believes next the driver's file.
    ///
    /// # Errors
    ///
    /// The first malformed line. OpenSSH would skip it, but it could be the one that revokes a key.
    pub fn with_file(mut self, text: String) -> Result<Self, Malformed> {
        if let Some(malformed) = known_hosts::entries(&text).find_map(Result::err) {
            return Err(malformed);
        }
        self.file = Some(text);
        Ok(self)
    }

    /// Believes next what was accepted as new: the lines of [`Accepted::New`]. A malformed one is skipped, since another
    /// process may be writing it.
    #[must_use]
    pub fn with_accepted(mut self, text: String) -> Self {
        self.accepted = Some(text);
        self
    }

    /// Whether the server at `host` and `port` is to be believed.
    ///
    /// # Errors
    ///
    /// Its key is unknown, changed or revoked. A host that is known by a key of another type is not new: it would take no
    /// more than presenting such a key to pass for it.
    pub fn check(&self, host: &str, port: u16, presented: &PresentedKey<'_>) -> Result<Accepted, HostKeyError> {
        let name = host_name(host, port);
        let bare = host_name(host, 22);
        let key = presented.to_string();
        if let Some((origin, _)) = self.find(Marker::Revoked, |entry| {
            entry.blob == presented.blob && (entry.matches(&name) || entry.matches(&bare))
        }) {
            return Err(HostKeyError::Revoked { host: name, key, origin });
        }
        let line = presented.line(&name);
        let known = self.deciding(&name);
        let is_presented = |(_, entry): &(Origin, Entry<'_>)| entry.blob == presented.blob;
        if known.iter().any(is_presented) || (known.is_empty() && self.deciding(&bare).iter().any(is_presented)) {
            return Ok(Accepted::Known);
        }
        if let Some((origin, entry)) = known.iter().find(|(_, entry)| entry.kind == presented.kind) {
            let known = PresentedKey { kind: entry.kind, blob: &entry.blob }.to_string();
            return Err(HostKeyError::Changed { host: name, key, known, origin: *origin, line });
        }
        if !known.is_empty() {
            return Err(HostKeyError::Unknown { host: name, key, known: types(&known), line });
        }
        if let Some((origin, _)) = self.find(Marker::CertAuthority, |entry| entry.matches(&name)) {
            return Err(HostKeyError::OnlyCertAuthority { host: name, key, origin, line });
        }
        match self.checking {
            Checking::AcceptNew => Ok(Accepted::New { line }),
            Checking::Strict => Err(HostKeyError::Unknown { host: name, key, known: Vec::new(), line }),
        }
    }

    /// The types of the keys by which a server is known, so that it can be asked for a key of one of them. Empty when
    /// nothing is known of it.
    pub fn key_types(&self, host: &str, port: u16) -> Vec<String> {
        let known = self.deciding(&host_name(host, port));
        types(&if known.is_empty() { self.deciding(&host_name(host, 22)) } else { known })
    }

    fn sources(&self) -> impl Iterator<Item = (Source, &str)> {
        [
            (Source::Secret, self.secret.as_deref()),
            (Source::File, self.file.as_deref()),
            (Source::Accepted, self.accepted.as_deref()),
            (Source::BuiltIn, Some(forges::KNOWN_HOSTS)),
        ]
        .into_iter()
        .filter_map(|(source, text)| Some((source, text?)))
    }

    /// The lines for a server's keys in the first source that has any.
    fn deciding(&self, name: &str) -> Vec<(Origin, Entry<'_>)> {
        self.sources()
            .map(|(source, text)| {
                lines(source, text).filter(|(_, entry)| entry.marker == Marker::Host && entry.matches(name)).collect()
            })
            .find(|found: &Vec<_>| !found.is_empty())
            .unwrap_or_default()
    }

    /// The first line of any source with this marker that `wanted` says yes to.
    fn find(&self, marker: Marker, wanted: impl Fn(&Entry<'_>) -> bool) -> Option<(Origin, Entry<'_>)> {
        self.sources()
            .flat_map(|(source, text)| lines(source, text))
            .find(|(_, entry)| entry.marker == marker && wanted(entry))
    }
}

/// Shows which sources there are; their text is none of a log's business.
impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources().map(|(source, _)| source).collect();
        f.debug_struct("HostKeys").field("checking", &self.checking).field("sources", &sources).finish()
    }
}

impl PresentedKey<'_> {
    /// `SHA256:` and the digest in base64, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(self.blob)))
    }

    fn line(&self, name: &str) -> String {
        format!("{name} {} {}", self.kind, BASE64_STANDARD.encode(self.blob))
    }
}

impl fmt::Display for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.fingerprint())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Secret => write!(f, "line {} of the secret's known_hosts", self.line),
            Source::File => write!(f, "line {} of the file hostKeys.file", self.line),
            Source::Accepted => write!(f, "line {} of the keys accepted before", self.line),
            Source::BuiltIn => write!(f, "the built-in list"),
        }
    }
}

fn lines(source: Source, text: &str) -> impl Iterator<Item = (Origin, Entry<'_>)> {
    known_hosts::entries(text).filter_map(Result::ok).map(move |entry| (Origin { source, line: entry.line }, entry))
}

fn types(known: &[(Origin, Entry<'_>)]) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    for (_, entry) in known {
        if !types.iter().any(|kind| kind == entry.kind) {
            types.push(entry.kind.to_owned());
        }
    }
    types
}

fn other_types(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (only its keys of type {} are known)", known.join(", ")) }
}
