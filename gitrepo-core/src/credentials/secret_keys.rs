//! The names of a secret's keys, the host of each, and the form of its value.
//!
//! The names are those of `kubernetes.io/ssh-auth`, `kubernetes.io/basic-auth` and `kubernetes.io/tls`, so such secrets
//! work unchanged. Keys of other secret types (`.dockerconfigjson`) are rejected as unknown: otherwise a secret of the
//! wrong kind would be silently ignored.

use std::collections::BTreeMap;

use super::CredentialError;
use super::Secret;
use super::SshKey;
use super::certificates::ClientCertificate;
use super::certificates::certificates;
use super::known_hosts;
use super::known_hosts::Unusable;
use crate::spec::foreign;
use crate::spec::nearest::nearest;

/// A key of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKey {
    /// `ssh-privatekey`, in OpenSSH or PEM format; also `sshKey`.
    SshPrivateKey,
    /// `ssh-passphrase`, for an encrypted private key.
    SshPassphrase,
    /// `known_hosts`, in OpenSSH's format.
    KnownHosts,
    /// `username`, for `password`; over SSH also for the private key.
    Username,
    /// `password`, or a token that the server expects as one.
    Password,
    /// `token`, sent as `Authorization: Bearer`.
    Token,
    /// `ca.crt`, certificates in PEM format.
    CaCertificates,
    /// `tls.crt`, a client certificate in PEM format, with `tls.key`.
    TlsCertificate,
    /// `tls.key`, its private key in PEM format.
    TlsKey,
}

impl SecretKey {
    /// All keys, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::SshPrivateKey,
        Self::SshPassphrase,
        Self::KnownHosts,
        Self::Username,
        Self::Password,
        Self::Token,
        Self::CaCertificates,
        Self::TlsCertificate,
        Self::TlsKey,
    ];

    /// The key's name without a host.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshPrivateKey => "ssh-privatekey",
            Self::SshPassphrase => "ssh-passphrase",
            Self::KnownHosts => "known_hosts",
            Self::Username => "username",
            Self::Password => "password",
            Self::Token => "token",
            Self::CaCertificates => "ca.crt",
            Self::TlsCertificate => "tls.crt",
            Self::TlsKey => "tls.key",
        }
    }

    /// The key that has this name here or in another tool.
    pub fn meant_by(name: &str) -> Option<Self> {
        Self::named(foreign::secret_key(name)?)
    }

    /// The key with this name, including aliases.
    fn named(name: &str) -> Option<Self> {
        match name {
            "sshKey" => Some(Self::SshPrivateKey),
            _ => Self::ALL.into_iter().find(|key| key.name() == name),
        }
    }
}

/// Longest name of a key, in bytes: the limit of Kubernetes.
const LONGEST_NAME: usize = 253;

/// Longest name shown in an error, in characters, including the host.
const SHOWN: usize = 128;

/// A secret's keys for one host, checked.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) ssh_key: Option<SshKey>,
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
    pub(super) known_hosts: Option<Secret>,
    pub(super) ca_certificates: Option<Secret>,
    pub(super) client_certificate: Option<ClientCertificate>,
}

/// One host's keys as given: the full name and the value.
type Given<'a> = BTreeMap<SecretKey, (&'a str, &'a Secret)>;

/// Sorts a secret by host: the keys without a prefix, and those of each prefix in lower case. A blank value means the
/// same as a missing one.
pub(super) fn sort(given: &BTreeMap<String, Secret>) -> Result<(Group, BTreeMap<String, Group>), CredentialError> {
    let mut own = Given::new();
    let mut prefixed: BTreeMap<String, Given<'_>> = BTreeMap::new();
    for (name, value) in given {
        let (host, key) = split(name).map_err(|error| match error {
            CredentialError::UnknownKey { key, nearest: Some(nearest) } if given.contains_key(&nearest) => {
                CredentialError::NotNeeded { key, nearest }
            }
            error => error,
        })?;
        if is_blank(value) {
            continue;
        }
        let group = match host {
            None => &mut own,
            Some(host) => prefixed.entry(host).or_default(),
        };
        if let Some((first, _)) = group.insert(key, (name, value)) {
            return Err(CredentialError::Twice { first: first.to_owned(), second: name.clone() });
        }
    }
    let prefixed = prefixed.into_iter().map(|(host, given)| Ok((host, Group::check(&given)?)));
    Ok((Group::check(&own)?, prefixed.collect::<Result<_, _>>()?))
}

/// Whether nothing was given, except perhaps the line end that `echo` leaves.
pub(super) fn is_blank(value: &Secret) -> bool {
    value.expose().trim().is_empty()
}

/// Splits `git.example.com.ca.crt` into host and key. Tries the full name first, then the part after each dot, so the
/// longest key wins.
fn split(name: &str) -> Result<(Option<String>, SecretKey), CredentialError> {
    if let Some(key) = SecretKey::named(name) {
        return Ok((None, key));
    }
    let found = name.match_indices('.').find_map(|(dot, _)| Some((&name[..dot], SecretKey::named(&name[dot + 1..])?)));
    let Some((prefix, key)) = found else {
        return Err(CredentialError::UnknownKey { key: shown(name), nearest: suggest(name) });
    };
    if name.len() > LONGEST_NAME || !is_host(prefix) {
        return Err(CredentialError::Prefix { key: shown(name), prefix: shown(prefix) });
    }
    Ok((Some(prefix.to_ascii_lowercase()), key))
}

/// The host that a key is for, in lower case; `None` for one without a prefix. The key is known.
pub(super) fn host_of(name: &str) -> Option<String> {
    split(name).ok().and_then(|(host, _)| host)
}

/// A DNS name or an IPv4 address. (The colons of an IPv6 address are not allowed in the keys of a Kubernetes Secret.)
fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed))
}

/// The beginning of a name, enough to recognise it.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

/// The name probably meant, with the given host prefix.
fn suggest(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
    starts.map(|start| name.split_at(start)).find_map(|(prefix, rest)| {
        let known = foreign::secret_key(rest).or_else(|| nearest(rest, SecretKey::ALL.iter().map(|key| key.name())))?;
        Some(format!("{prefix}{known}"))
    })
}

impl Group {
    /// Checks each value, and that they are consistent.
    fn check(given: &Given<'_>) -> Result<Self, CredentialError> {
        Ok(Self {
            ssh_key: ssh_key(given)?,
            username: username(given)?,
            password: password(given)?,
            token: token(given)?,
            known_hosts: known_hosts(given)?,
            ca_certificates: value(given, SecretKey::CaCertificates).map(certificates).transpose()?.map(Secret::new),
            client_certificate: client_certificate(given)?,
        })
    }

    /// The user's name. Not a secret, but it does not belong in a log.
    pub(super) fn username(&self) -> Option<&str> {
        self.username.as_ref().map(Secret::expose)
    }

    /// Whether there is a way to log in over HTTP.
    pub(super) fn has_login(&self) -> bool {
        self.password.is_some() || self.token.is_some()
    }
}

/// The value of `key`, and its name as given.
fn value<'a>(given: &Given<'a>, key: SecretKey) -> Option<(&'a str, &'a str)> {
    given.get(&key).map(|(name, value)| (*name, value.expose()))
}

/// The value of a `key` of one line, without the line end that editors and `echo` leave.
fn line(given: &Given<'_>, key: SecretKey, sendable: fn(char) -> bool) -> Result<Option<Secret>, CredentialError> {
    let Some((name, value)) = value(given, key) else { return Ok(None) };
    let value = value.trim_end_matches(['\r', '\n']);
    if !value.chars().all(sendable) {
        return Err(CredentialError::Unsendable { key: name.to_owned() });
    }
    Ok(Some(Secret::new(value.to_owned())))
}

/// The full name of another key for the same host as `name`, which is `key`.
fn sibling(name: &str, key: SecretKey, sibling: SecretKey) -> String {
    let prefix = name.strip_suffix(key.name()).or_else(|| name.strip_suffix("sshKey")).unwrap_or_default();
    format!("{prefix}{}", sibling.name())
}

fn ssh_key(given: &Given<'_>) -> Result<Option<SshKey>, CredentialError> {
    let passphrase = line(given, SecretKey::SshPassphrase, |character| character != '\0')?;
    let Some((name, text)) = value(given, SecretKey::SshPrivateKey) else {
        return match given.get(&SecretKey::SshPassphrase) {
            Some((name, _)) => Err(CredentialError::Incomplete {
                key: (*name).to_owned(),
                missing: sibling(name, SecretKey::SshPassphrase, SecretKey::SshPrivateKey),
                hint: "",
            }),
            None => Ok(None),
        };
    };
    let key =
        SshKey::parse(text, passphrase).map_err(|source| CredentialError::SshKey { key: name.to_owned(), source })?;
    if key.is_encrypted() && key.passphrase().is_none() {
        let passphrase = sibling(name, SecretKey::SshPrivateKey, SecretKey::SshPassphrase);
        return Err(CredentialError::PassphraseMissing { key: name.to_owned(), passphrase });
    }
    Ok(Some(key))
}

/// RFC 7617 allows no control characters and, in the user's name, no colon.
fn username(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let username = line(given, SecretKey::Username, |character| !character.is_control() && character != ':')?;
    if let Some((name, _)) = given.get(&SecretKey::Username)
        && !given.contains_key(&SecretKey::Password)
        && !given.contains_key(&SecretKey::SshPrivateKey)
    {
        return Err(CredentialError::Incomplete {
            key: (*name).to_owned(),
            missing: sibling(name, SecretKey::Username, SecretKey::Password),
            hint: if given.contains_key(&SecretKey::Token) {
                "; a bearer token needs no user name, and a server that wants a user name expects the token as password"
            } else {
                ""
            },
        });
    }
    Ok(username)
}

fn password(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let password = line(given, SecretKey::Password, |character| !character.is_control())?;
    if let Some((name, _)) = given.get(&SecretKey::Password)
        && !given.contains_key(&SecretKey::Username)
    {
        return Err(CredentialError::Incomplete {
            key: (*name).to_owned(),
            missing: sibling(name, SecretKey::Password, SecretKey::Username),
            hint: "; if the server takes it without a user name, as a bearer token, call it \"token\"",
        });
    }
    Ok(password)
}

/// It is sent unchanged in a header, so it must be visible ASCII.
fn token(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let token = line(given, SecretKey::Token, |character| character.is_ascii_graphic())?;
    if let (Some((token, _)), Some((password, _))) = (given.get(&SecretKey::Token), given.get(&SecretKey::Password)) {
        let (token, password) = ((*token).to_owned(), (*password).to_owned());
        return Err(CredentialError::TwoLogins { token, password });
    }
    Ok(token)
}

/// Malformed lines are skipped, as in OpenSSH.
fn known_hosts(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let Some((name, text)) = value(given, SecretKey::KnownHosts) else { return Ok(None) };
    match known_hosts::check(text) {
        Ok(()) => {}
        Err(Unusable { malformed, every: false }) => {
            tracing::warn!(key = name, %malformed, "lines of known_hosts are skipped")
        }
        Err(Unusable { malformed, every: true }) => {
            return Err(CredentialError::KnownHosts { key: name.to_owned(), source: malformed });
        }
    }
    Ok(Some(Secret::new(text.to_owned())))
}

fn client_certificate(given: &Given<'_>) -> Result<Option<ClientCertificate>, CredentialError> {
    let missing = |name: &str, key, missing| CredentialError::Incomplete {
        key: name.to_owned(),
        missing: sibling(name, key, missing),
        hint: "",
    };
    match (value(given, SecretKey::TlsCertificate), value(given, SecretKey::TlsKey)) {
        (Some(certificate), Some(key)) => ClientCertificate::parse(certificate, key).map(Some),
        (Some((name, _)), None) => Err(missing(name, SecretKey::TlsCertificate, SecretKey::TlsKey)),
        (None, Some((name, _))) => Err(missing(name, SecretKey::TlsKey, SecretKey::TlsCertificate)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
