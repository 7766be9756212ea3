//! The names of a secret's keys, whom each is for, and what its value must look like.
//!
//! The names are those of `kubernetes.io/ssh-auth` and `kubernetes.io/basic-auth`, so such secrets serve as they are.
//! Keys of other secret types (`tls.key`, `.dockerconfigjson`) are unknown here, and refused: a secret that means
//! something else would otherwise be ignored without a word.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::CredentialError;
use super::Secret;
use super::SshKey;
use super::known_hosts::entries;
use crate::nearest::nearest;

/// A key of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
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
}

impl Key {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 7] = [
        Self::SshPrivateKey,
        Self::SshPassphrase,
        Self::KnownHosts,
        Self::Username,
        Self::Password,
        Self::Token,
        Self::CaCertificates,
    ];

    /// Its name, without a host.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshPrivateKey => "ssh-privatekey",
            Self::SshPassphrase => "ssh-passphrase",
            Self::KnownHosts => "known_hosts",
            Self::Username => "username",
            Self::Password => "password",
            Self::Token => "token",
            Self::CaCertificates => "ca.crt",
        }
    }

    /// The key that goes by `name`, aliases included.
    fn named(name: &str) -> Option<Self> {
        match name {
            "sshKey" => Some(Self::SshPrivateKey),
            _ => Self::ALL.into_iter().find(|key| key.name() == name),
        }
    }
}

/// Names that other tools use for the same thing, and that are too different to be a typing error.
const FOREIGN: [(&str, Key); 8] = [
    ("identity", Key::SshPrivateKey),
    ("ssh", Key::SshPrivateKey),
    ("id_rsa", Key::SshPrivateKey),
    ("id_ecdsa", Key::SshPrivateKey),
    ("id_ed25519", Key::SshPrivateKey),
    ("bearerToken", Key::Token),
    ("caFile", Key::CaCertificates),
    ("user", Key::Username),
];

/// What a secret holds for one host, checked.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) ssh_key: Option<SshKey>,
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
    pub(super) known_hosts: Option<Secret>,
    pub(super) ca_certificates: Option<Secret>,
}

/// One host's keys as given: the name in full, and the value.
type Given<'a> = BTreeMap<Key, (&'a str, &'a Secret)>;

/// Sorts a secret by host: the keys without a prefix, and those of each prefix, which is in lower case.
pub(super) fn sort(given: &BTreeMap<String, Secret>) -> Result<(Group, BTreeMap<String, Group>), CredentialError> {
    let mut own = Given::new();
    let mut prefixed: BTreeMap<String, Given<'_>> = BTreeMap::new();
    for (name, value) in given {
        let (host, key) = split(name)?;
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

/// Splits `git.example.com.ca.crt` into host and key. A name is tried in full first, then behind each of its dots, so the
/// longest key wins.
fn split(name: &str) -> Result<(Option<String>, Key), CredentialError> {
    if let Some(key) = Key::named(name) {
        return Ok((None, key));
    }
    let found = name.match_indices('.').find_map(|(dot, _)| Some((&name[..dot], Key::named(&name[dot + 1..])?)));
    let Some((prefix, key)) = found else {
        return Err(CredentialError::UnknownKey { key: name.to_owned(), nearest: suggest(name) });
    };
    if !is_host(prefix) {
        return Err(CredentialError::Prefix { key: name.to_owned(), prefix: prefix.to_owned() });
    }
    Ok((Some(prefix.to_ascii_lowercase()), key))
}

/// A DNS name or an IPv4 address. (The colons of an IPv6 address are not allowed in the keys of a Kubernetes Secret.)
fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed))
}

/// The name that was probably meant, with the host prefix that was given.
fn suggest(name: &str) -> Option<String> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
    starts.map(|start| name.split_at(start)).find_map(|(prefix, rest)| {
        let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == rest).map(|(_, key)| key.name());
        let known = foreign.or_else(|| nearest(rest, Key::ALL.iter().map(|key| key.name())))?;
        Some(format!("{prefix}{known}"))
    })
}

impl Group {
    /// Checks each value, and that together they make sense.
    fn check(given: &Given<'_>) -> Result<Self, CredentialError> {
        Ok(Self {
            ssh_key: ssh_key(given)?,
            username: username(given)?,
            password: password(given)?,
            token: token(given)?,
            known_hosts: known_hosts(given)?,
            ca_certificates: ca_certificates(given)?,
        })
    }

    /// The user's name, which is not a secret, but not for a log either.
    pub(super) fn username(&self) -> Option<&str> {
        self.username.as_ref().map(Secret::expose)
    }

    /// Whether there is a way to log in over HTTP.
    pub(super) fn has_login(&self) -> bool {
        self.password.is_some() || self.token.is_some()
    }
}

/// The value of `key`, which must not be blank.
fn value<'a>(given: &Given<'a>, key: Key) -> Result<Option<(&'a str, &'a str)>, CredentialError> {
    match given.get(&key) {
        Some((name, value)) if value.expose().trim().is_empty() => {
            Err(CredentialError::Empty { key: (*name).to_owned() })
        }
        Some((name, value)) => Ok(Some((*name, value.expose()))),
        None => Ok(None),
    }
}

/// The value of a `key` of one line. The line end that editors and `echo` leave in a file is not part of it.
fn line(given: &Given<'_>, key: Key, sendable: fn(char) -> bool) -> Result<Option<Secret>, CredentialError> {
    let Some((name, value)) = value(given, key)? else { return Ok(None) };
    let value = value.trim_end_matches(['\r', '\n']);
    if !value.chars().all(sendable) {
        return Err(CredentialError::Unsendable { key: name.to_owned() });
    }
    Ok(Some(Secret::new(value.to_owned())))
}

/// How a key of the same host as `name`, which is `key`, is written.
fn sibling(name: &str, key: Key, sibling: Key) -> String {
    let prefix = name.strip_suffix(key.name()).or_else(|| name.strip_suffix("sshKey")).unwrap_or_default();
    format!("{prefix}{}", sibling.name())
}

fn ssh_key(given: &Given<'_>) -> Result<Option<SshKey>, CredentialError> {
    let passphrase = line(given, Key::SshPassphrase, |character| character != '\0')?;
    let Some((name, text)) = value(given, Key::SshPrivateKey)? else {
        return match given.get(&Key::SshPassphrase) {
            Some((name, _)) => Err(CredentialError::Incomplete {
                key: (*name).to_owned(),
                missing: sibling(name, Key::SshPassphrase, Key::SshPrivateKey),
                hint: "",
            }),
            None => Ok(None),
        };
    };
    let key =
        SshKey::parse(text, passphrase).map_err(|source| CredentialError::SshKey { key: name.to_owned(), source })?;
    if key.is_encrypted() && key.passphrase().is_none() {
        let passphrase = sibling(name, Key::SshPrivateKey, Key::SshPassphrase);
        return Err(CredentialError::PassphraseMissing { key: name.to_owned(), passphrase });
    }
    Ok(Some(key))
}

/// RFC 7617 allows neither control characters nor, in the user's name, a colon.
fn username(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let username = line(given, Key::Username, |character| !character.is_control() && character != ':')?;
    if let Some((name, _)) = given.get(&Key::Username)
        && !given.contains_key(&Key::Password)
        && !given.contains_key(&Key::SshPrivateKey)
    {
        return Err(CredentialError::Incomplete {
            key: (*name).to_owned(),
            missing: sibling(name, Key::Username, Key::Password),
            hint: if given.contains_key(&Key::Token) {
                "; a bearer token needs no user name, and a server that wants a user name expects the token as password"
            } else {
                ""
            },
        });
    }
    Ok(username)
}

fn password(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let password = line(given, Key::Password, |character| !character.is_control())?;
    if let Some((name, _)) = given.get(&Key::Password)
        && !given.contains_key(&Key::Username)
    {
        return Err(CredentialError::Incomplete {
            key: (*name).to_owned(),
            missing: sibling(name, Key::Password, Key::Username),
            hint: "; if the server takes it without a user name, as a bearer token, call it \"token\"",
        });
    }
    Ok(password)
}

/// It becomes a header as it is, so it must be visible ASCII.
fn token(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let token = line(given, Key::Token, |character| character.is_ascii_graphic())?;
    if let (Some((token, _)), Some((password, _))) = (given.get(&Key::Token), given.get(&Key::Password)) {
        let (token, password) = ((*token).to_owned(), (*password).to_owned());
        return Err(CredentialError::TwoLogins { token, password });
    }
    Ok(token)
}

fn known_hosts(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let Some((name, text)) = value(given, Key::KnownHosts)? else { return Ok(None) };
    match entries(text).find_map(Result::err) {
        Some(source) => Err(CredentialError::KnownHosts { key: name.to_owned(), source }),
        None => Ok(Some(Secret::new(text.to_owned()))),
    }
}

fn ca_certificates(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let Some((name, text)) = value(given, Key::CaCertificates)? else { return Ok(None) };
    if !has_certificate(text) {
        return Err(CredentialError::NoCertificate { key: name.to_owned() });
    }
    Ok(Some(Secret::new(text.to_owned())))
}

/// Whether the first block of certificates is whole. What is in it, TLS will say.
fn has_certificate(text: &str) -> bool {
    let block = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"));
    block.is_some_and(|(body, _)| {
        let body: String = body.split_ascii_whitespace().collect();
        BASE64_STANDARD.decode(body).is_ok_and(|certificate| !certificate.is_empty())
    })
}
