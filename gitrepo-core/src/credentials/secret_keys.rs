//! The names of a secret's keys, the host of each, and the form of its value.
//!
//! The names are those of `kubernetes.io/ssh-auth` and `kubernetes.io/basic-auth`, so such secrets work unchanged. Keys
//! of other secret types (`tls.key`, `.dockerconfigjson`) are rejected as unknown: otherwise a secret of the wrong kind
//! would be silently ignored.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::CredentialError;
use super::Secret;
use super::SshKey;
use super::known_hosts::entries;
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
}

impl SecretKey {
    /// All keys, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::SshPrivateKey,
        Self::SshPassphrase,
        Self::KnownHosts,
        Self::Username,
        Self::Password,
        Self::Token,
        Self::CaCertificates,
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
        }
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

/// Names that other tools use for the same keys, too different to be typos.
const FOREIGN: [(&str, SecretKey); 8] = [
    ("identity", SecretKey::SshPrivateKey),
    ("ssh", SecretKey::SshPrivateKey),
    ("id_rsa", SecretKey::SshPrivateKey),
    ("id_ecdsa", SecretKey::SshPrivateKey),
    ("id_ed25519", SecretKey::SshPrivateKey),
    ("bearerToken", SecretKey::Token),
    ("caFile", SecretKey::CaCertificates),
    ("user", SecretKey::Username),
];

/// A secret's keys for one host, checked.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) ssh_key: Option<SshKey>,
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
    pub(super) known_hosts: Option<Secret>,
    pub(super) ca_certificates: Option<Secret>,
}

/// One host's keys as given: the full name and the value.
type Given<'a> = BTreeMap<SecretKey, (&'a str, &'a Secret)>;

/// Sorts a secret by host: the keys without a prefix, and those of each prefix in lower case.
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
        let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == rest).map(|(_, key)| key.name());
        let known = foreign.or_else(|| nearest(rest, SecretKey::ALL.iter().map(|key| key.name())))?;
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
            ca_certificates: ca_certificates(given)?,
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

/// The value of `key`, which must not be blank.
fn value<'a>(given: &Given<'a>, key: SecretKey) -> Result<Option<(&'a str, &'a str)>, CredentialError> {
    match given.get(&key) {
        Some((name, value)) if value.expose().trim().is_empty() => {
            Err(CredentialError::Empty { key: (*name).to_owned() })
        }
        Some((name, value)) => Ok(Some((*name, value.expose()))),
        None => Ok(None),
    }
}

/// The value of a `key` of one line, without the line end that editors and `echo` leave.
fn line(given: &Given<'_>, key: SecretKey, sendable: fn(char) -> bool) -> Result<Option<Secret>, CredentialError> {
    let Some((name, value)) = value(given, key)? else { return Ok(None) };
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
    let Some((name, text)) = value(given, SecretKey::SshPrivateKey)? else {
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

fn known_hosts(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let Some((name, text)) = value(given, SecretKey::KnownHosts)? else { return Ok(None) };
    match entries(text).find_map(Result::err) {
        Some(source) => Err(CredentialError::KnownHosts { key: name.to_owned(), source }),
        None => Ok(Some(Secret::new(text.to_owned()))),
    }
}

fn ca_certificates(given: &Given<'_>) -> Result<Option<Secret>, CredentialError> {
    let Some((name, text)) = value(given, SecretKey::CaCertificates)? else { return Ok(None) };
    if !has_certificate(text) {
        return Err(CredentialError::NoCertificate { key: name.to_owned() });
    }
    Ok(Some(Secret::new(text.to_owned())))
}

/// Whether the first block of certificates is complete. TLS checks its content.
fn has_certificate(text: &str) -> bool {
    let block = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"));
    block.is_some_and(|(body, _)| {
        let body: String = body.split_ascii_whitespace().collect();
        BASE64_STANDARD.decode(body).is_ok_and(|certificate| !certificate.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::CERTIFICATE;
    use super::super::tests::PRIVATE_KEY;
    use super::super::tests::credentials;
    use super::*;

    const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n";

    fn error(keys: &[(&str, &str)]) -> String {
        crate::error::chain(&credentials(keys).unwrap_err())
    }

    #[test]
    fn a_name_is_split_at_the_longest_known_key() {
        for (name, host, key) in [
            ("token", None, SecretKey::Token),
            ("sshKey", None, SecretKey::SshPrivateKey),
            ("ca.crt", None, SecretKey::CaCertificates),
            ("git.example.com.ca.crt", Some("git.example.com"), SecretKey::CaCertificates),
            ("Git.Example.com.sshKey", Some("git.example.com"), SecretKey::SshPrivateKey),
            ("localhost.known_hosts", Some("localhost"), SecretKey::KnownHosts),
            ("10.0.0.1.ssh-passphrase", Some("10.0.0.1"), SecretKey::SshPassphrase),
            ("token.token", Some("token"), SecretKey::Token),
        ] {
            assert_eq!(split(name), Ok((host.map(str::to_owned), key)), "{name}");
        }
    }

    #[test]
    fn an_unknown_key_names_its_nearest_neighbour() {
        for (name, nearest) in [
            ("pasword", "password"),
            ("sshPrivateKey", "ssh-privatekey"),
            ("ssh-private-key", "ssh-privatekey"),
            ("known-hosts", "known_hosts"),
            ("ca.cert", "ca.crt"),
            ("identity", "ssh-privatekey"),
            ("git.example.com.tokn", "git.example.com.token"),
        ] {
            assert_eq!(error(&[(name, "x")]), format!("unknown secret key {name:?}; did you mean {nearest:?}?"));
        }
        let without = error(&[("tls.key", "x")]);
        assert!(without.contains("\"tls.key\"; there are ssh-privatekey, ssh-passphrase,"), "{without}");
    }

    #[test]
    fn what_is_no_host_is_no_prefix() {
        for name in [".token", "a..token", "a b.token", "https://a.token"] {
            assert!(error(&[(name, "x")]).contains("is not a host name"), "{name}");
        }
    }

    #[test]
    fn the_line_end_that_a_file_has_is_not_part_of_the_value() {
        let credentials = credentials(&[
            ("username", "me\n"),
            ("password", "pass \r\n"),
            ("a.org.token", "t0k3n\n"),
            ("ssh-privatekey", ENCRYPTED_KEY),
            ("ssh-passphrase", " phrase\n"),
        ])
        .unwrap();
        let own = credentials.for_host("host", "host");
        assert_eq!((own.username, own.password.unwrap().expose()), (Some("me"), "pass "));
        assert_eq!(own.ssh_key.unwrap().passphrase().unwrap().expose(), " phrase");
        assert_eq!(credentials.for_host("a.org", "host").token.unwrap().expose(), "t0k3n");
    }

    #[test]
    fn nothing_that_could_end_a_header_is_let_through() {
        for value in ["a\nX-Evil: 1", "a\r\n\r\nGET /", "a\0b", "a\x1bb", "a\x7fb", "a\u{85}b"] {
            for keys in [
                vec![("token", value)],
                vec![("username", value), ("password", "p")],
                vec![("username", "u"), ("password", value)],
            ] {
                assert!(error(&keys).contains("cannot be sent"), "{keys:?}");
            }
        }
        assert!(error(&[("token", "two words")]).contains("cannot be sent"));
        assert!(error(&[("token", "tökén")]).contains("cannot be sent"));
        assert!(error(&[("username", "a:b"), ("password", "p")]).contains("cannot be sent"));
        assert!(credentials(&[("username", "jörg"), ("password", "p:ä ß")]).is_ok());
    }

    #[test]
    fn an_empty_value_is_refused_under_every_key() {
        for key in SecretKey::ALL {
            for value in ["", " ", "\n"] {
                let keys = [(key.name(), value)];
                assert_eq!(error(&keys), format!("secret key {:?} is empty", key.name()));
            }
        }
    }

    #[test]
    fn keys_that_need_or_exclude_one_another_say_so() {
        for (keys, message) in [
            (vec![("password", "p")], "has \"password\" but no \"username\"; if the server"),
            (vec![("username", "u")], "has \"username\" but no \"password\""),
            (vec![("username", "u"), ("token", "t")], "no \"password\"; a bearer token needs no user name"),
            (vec![("a.org.username", "u"), ("password", "p")], "has \"password\" but no \"username\""),
            (vec![("a.org.password", "p")], "has \"a.org.password\" but no \"a.org.username\""),
            (vec![("ssh-passphrase", "p")], "has \"ssh-passphrase\" but no \"ssh-privatekey\""),
            (
                vec![("username", "u"), ("password", "p"), ("token", "t")],
                "has \"token\" and \"password\", which are two",
            ),
            (vec![("ssh-privatekey", PRIVATE_KEY), ("sshKey", PRIVATE_KEY)], "which mean the same"),
            (vec![("A.org.token", "t"), ("a.org.token", "t")], "which mean the same"),
            (
                vec![("ssh-privatekey", ENCRYPTED_KEY)],
                "encrypted: add its passphrase to the secret as \"ssh-passphrase\"",
            ),
            (vec![("a.org.sshKey", ENCRYPTED_KEY)], "as \"a.org.ssh-passphrase\""),
        ] {
            assert!(error(&keys).contains(message), "{}", error(&keys));
        }
        assert!(credentials(&[("username", "git"), ("ssh-privatekey", PRIVATE_KEY)]).is_ok());
        assert!(credentials(&[("token", "t"), ("a.org.username", "u"), ("a.org.password", "p")]).is_ok());
    }

    #[test]
    fn a_key_a_certificate_and_known_hosts_are_checked_before_they_are_needed() {
        for (key, value, message) in [
            ("ssh-privatekey", "ssh-rsa AAAA", "\"ssh-privatekey\" cannot be used: it is a public key"),
            ("ca.crt", "MIIB", "no certificate in PEM format"),
            ("ca.crt", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----", "no certificate"),
            ("ca.crt", PRIVATE_KEY, "no certificate"),
            ("known_hosts", "\ngit.example.com ssh-rsa", "not in the format of known_hosts: line 2 is not of the form"),
        ] {
            assert!(error(&[(key, value)]).contains(message), "{}", error(&[(key, value)]));
        }
        assert!(credentials(&[("ca.crt", &format!("# comment\n{CERTIFICATE}{CERTIFICATE}"))]).is_ok());
    }

    #[test]
    fn no_error_shows_a_value() {
        for key in SecretKey::ALL {
            for value in
                ["canary", "canary\r\ncanary", "canary ssh-rsa", "-----BEGIN canary PRIVATE KEY-----", "\0canary"]
            {
                let secret = [(key.name(), value)];
                if let Err(error) = credentials(&secret) {
                    let shown = format!("{} {error:?}", crate::error::chain(&error));
                    assert!(!shown.contains("canary"), "{shown}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_secret_makes_the_check_panic(
            names in prop::collection::vec("([a-z.]{0,5}\\.)?(ssh-privatekey|ssh-passphrase|known_hosts|username|password|token|ca.crt|\\PC*)", 0..6),
            values in prop::collection::vec("\\PC*|-----BEGIN (OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9:\n]{0,80}\n-----END |[a-z]{1,8}\n?", 6),
        ) {
            let keys: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            let _checked = credentials(&keys);
        }
    }

    #[test]
    fn s25_a_secret_is_measured_before_it_is_read() {
        let secret = |name: &str, value: &str| {
            let given = [(name.to_owned(), Secret::new(value.to_owned()))].into();
            crate::credentials::Credentials::from_secret_keys(given).unwrap_err()
        };
        let long = "x".repeat(1_400_000);
        for (name, value) in [(&*long, ""), ("known_hosts", &long), ("token", &long)] {
            let error = secret(name, value);
            assert!(matches!(error, CredentialError::TooLarge { length } if length >= 1_400_000), "{error}");
        }
        // Within the limit, names are checked but not compared letter by letter, and not shown in full.
        let dots = ".a".repeat(400_000);
        for name in [&long[..1_000_000], &dots, &format!("{}.token", &long[..900_000]), &format!("{dots}.token")] {
            assert!(secret(name, "x").to_string().len() < 600);
        }
    }
}
