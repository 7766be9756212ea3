//! Turns a secret into credentials for each host, and decides which host keys are trusted.
//!
//! [`Credentials`] are the keys of one secret. They are checked once, where an error can still name the bad key, and
//! queried for one host at a time. A key with a host prefix (`git.example.com.token`) is shown only to that host, a key
//! without one only to the repository's own host. So neither a redirect nor a submodule can carry a secret elsewhere.
//! [`HostKeys`] decide whether an SSH server is authentic.
//!
//! Nothing here prints a secret: [`Secret`] has neither `Display` nor `Serialize`, its `Debug` shows asterisks, and no
//! error contains a value.

use std::collections::BTreeMap;

mod certificates;
mod elsewhere;
mod error;
mod forges;
mod host_keys;
mod known_hosts;
pub(crate) mod pem;
mod secret;
mod secret_keys;
mod ssh_key;

pub use certificates::ClientCertificate;
pub use elsewhere::CredentialSource;
pub use elsewhere::SourceError;
pub use error::CredentialError;
pub use error::HostKeyError;
pub use host_keys::Accepted;
pub use host_keys::Checking;
pub use host_keys::HostKeys;
pub use host_keys::PresentedKey;
pub use host_keys::Source;
pub use host_keys::SourceLine;
pub use known_hosts::Malformed;
pub use secret::Secret;
pub use secret_keys::SecretKey;
pub use ssh_key::SshKey;
pub use ssh_key::SshKeyError;

use elsewhere::Elsewhere;
use secret_keys::Group;

/// The keys of one secret, checked.
///
/// The default has no keys, which is enough to read public repositories.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    given: BTreeMap<String, Secret>,
    own: Group,
    prefixed: BTreeMap<String, Group>,
    elsewhere: Option<Elsewhere>,
}

/// Maximum size of a secret, all keys and values together, in bytes: the limit of a Kubernetes Secret. CSI's general
/// limit for a map, 4 KiB, is too small for a key, a `known_hosts` and a CA bundle, and Kubernetes does not enforce it.
pub const SECRET_BYTES: usize = 1 << 20;

impl Credentials {
    /// Without any secret.
    pub fn none() -> Self {
        Self::default()
    }

    /// Checks the keys of a secret, as Kubernetes passes them: name → value. [`SecretKey`] lists the names. A blank value
    /// means the same as a missing one.
    ///
    /// # Errors
    ///
    /// If the secret exceeds [`SECRET_BYTES`], or for the first key that is unknown, malformed or contradicts another.
    /// The error never contains a value.
    pub fn from_secret_keys(mut given: BTreeMap<String, Secret>) -> Result<Self, CredentialError> {
        let length = given.iter().map(|(key, value)| key.len() + value.expose().len()).sum();
        if length > SECRET_BYTES {
            return Err(CredentialError::TooLarge { length });
        }
        let (own, prefixed) = secret_keys::sort(&given)?;
        given.retain(|_, value| !secret_keys::is_blank(value));
        Ok(Self { given, own, prefixed, elsewhere: None })
    }

    /// The credentials for `host`, if the volume's repository is on `repository_host`. Both are compared ignoring case;
    /// neither includes a port.
    ///
    /// A prefixed key belongs to the host of its prefix, an unprefixed one to the repository's host. If both apply to
    /// the repository's host, the prefixed one wins, separately for SSH key, HTTP login, known hosts, authorities and client certificate.
    /// Each kind has at most one answer: no second credential is tried after the first was refused.
    pub fn for_host(&self, host: &str, repository_host: &str) -> HostCredential<'_> {
        let prefixed = self.prefixed.get(&host.to_ascii_lowercase());
        let own = host.eq_ignore_ascii_case(repository_host).then_some(&self.own);
        let groups = || prefixed.into_iter().chain(own);
        let login = groups().find(|group| group.has_login());
        HostCredential {
            ssh_key: groups().find_map(|group| group.ssh_key.as_ref()),
            username: login.and_then(Group::username).or_else(|| groups().find_map(Group::username)),
            password: login.and_then(|group| group.password.as_ref()),
            token: login.and_then(|group| group.token.as_ref()),
            known_hosts: groups().find_map(|group| group.known_hosts.as_ref()).map(Secret::expose),
            ca_certificates: groups().find_map(|group| group.ca_certificates.as_ref()).map(Secret::expose),
            client_certificate: groups().find_map(|group| group.client_certificate.as_ref()),
        }
    }

    /// The content of the unprefixed `known_hosts`, for the repository's own host.
    pub fn known_hosts(&self) -> Option<&str> {
        self.own.known_hosts.as_ref().map(Secret::expose)
    }

    /// The PEM certificates of the unprefixed `ca.crt`, for the repository's own host.
    pub fn ca_certificates(&self) -> Option<&str> {
        self.own.ca_certificates.as_ref().map(Secret::expose)
    }

    /// The secret as given, without blank values, for a proof of access over all of it and for the worker's pipe.
    pub fn secret_keys(&self) -> &BTreeMap<String, Secret> {
        &self.given
    }

    /// Whether the secret has no key at all.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }
}

/// What may be shown to one host, and what the host must present.
#[derive(Clone, Copy, Default)]
pub struct HostCredential<'a> {
    /// For SSH.
    pub ssh_key: Option<&'a SshKey>,
    /// For HTTP with `password`; for SSH if the URL names no user.
    pub username: Option<&'a str>,
    /// For HTTP, and for SSH without a key. Comes with `username`, never with `token`.
    pub password: Option<&'a Secret>,
    /// For HTTP, as `Authorization: Bearer`.
    pub token: Option<&'a Secret>,
    /// Text in the format of OpenSSH's `known_hosts`. Malformed lines are to be skipped.
    pub known_hosts: Option<&'a str>,
    /// PEM certificates of authorities trusted in addition to the system's, at least one.
    pub ca_certificates: Option<&'a str>,
    /// For TLS, if the server asks for one.
    pub client_certificate: Option<&'a ClientCertificate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    pub(super) const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";

    pub(super) fn credentials(keys: &[(&str, &str)]) -> Result<Credentials, CredentialError> {
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::new((*value).to_owned()));
        Credentials::from_secret_keys(keys.iter().map(secret).collect())
    }

    fn login<'a>(credential: &HostCredential<'a>) -> (Option<&'a str>, Option<&'a str>, Option<&'a str>) {
        (credential.username, credential.password.map(Secret::expose), credential.token.map(Secret::expose))
    }

    #[test]
    fn an_unprefixed_key_is_shown_to_the_repositorys_host_alone() {
        let credentials = credentials(&[
            ("username", "me"),
            ("password", "pass"),
            ("ssh-privatekey", PRIVATE_KEY),
            ("known_hosts", "# none"),
            ("ca.crt", CERTIFICATE),
        ])
        .unwrap();
        let own = credentials.for_host("GIT.example.com", "git.example.com");
        assert_eq!(login(&own), (Some("me"), Some("pass"), None));
        assert_eq!(own.ssh_key.unwrap().private().expose(), PRIVATE_KEY);
        assert_eq!((own.known_hosts, own.ca_certificates), (Some("# none"), Some(CERTIFICATE)));
        for host in ["evil.org", "example.com", "evil.git.example.com", "git.example.com.evil.org", ""] {
            let other = credentials.for_host(host, "git.example.com");
            assert_eq!(login(&other), (None, None, None));
            assert!(other.ssh_key.is_none() && other.known_hosts.is_none() && other.ca_certificates.is_none());
        }
    }

    #[test]
    fn a_prefixed_key_is_shown_to_its_host_alone() {
        let credentials = credentials(&[("Other.example.com.token", "t0k3n"), ("token", "own")]).unwrap();
        let shown = |host| login(&credentials.for_host(host, "git.example.com")).2;
        assert_eq!(shown("other.EXAMPLE.com"), Some("t0k3n"));
        assert_eq!(shown("git.example.com"), Some("own"));
        assert_eq!(shown("example.com"), None);
    }

    #[test]
    fn for_one_host_the_prefixed_key_wins_kind_by_kind_and_logins_are_never_mixed() {
        let credentials = credentials(&[
            ("username", "me"),
            ("password", "pass"),
            ("ssh-privatekey", PRIVATE_KEY),
            ("git.example.com.token", "t0k3n"),
        ])
        .unwrap();
        let credential = credentials.for_host("git.example.com", "git.example.com");
        assert_eq!(login(&credential), (Some("me"), None, Some("t0k3n")));
        assert!(credential.ssh_key.is_some());
    }

    #[test]
    fn no_secret_is_a_credential_that_shows_nothing() {
        let none = Credentials::none();
        assert!(none.is_empty() && none.secret_keys().is_empty());
        assert_eq!(login(&none.for_host("host", "host")), (None, None, None));
    }

    #[test]
    fn debug_shows_names_only() {
        let credentials = credentials(&[("username", "canary"), ("password", "canary"), ("a.org.token", "canary")]);
        let shown = format!("{credentials:?}");
        assert!(shown.contains("password") && !shown.contains("canary"), "{shown}");
    }
}
