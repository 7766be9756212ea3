//! Credentials for SSH servers. HTTP does not authenticate through libgit2.
//!
//! libgit2 keeps asking until it gets an error (libgit2's `credential.h`), so each kind of credential is offered once
//! per connection.

use git2::Cred;
use git2::CredentialType;

use crate::credentials::HostCredential;
use crate::credentials::SshKey;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;

/// The default user: the account of all large forges.
const SSH_USER: &str = "git";

/// The credentials for one server.
pub(super) struct Authentication<'a> {
    url: &'a RepositoryUrl,
    credential: HostCredential<'a>,
    shown: Shown,
}

/// The credentials already offered on this connection.
#[derive(Debug, Default, Clone, Copy)]
struct Shown {
    user: bool,
    key: bool,
    password: bool,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        let host = request.errand.url.host().unwrap_or_default();
        Self {
            url: &request.errand.url,
            credential: request.errand.credentials.for_host(host, host),
            shown: Shown::default(),
        }
    }

    /// For a new connection: each credential may be offered again.
    pub(super) fn start_over(&mut self) {
        self.shown = Shown::default();
    }

    /// Answers a server that accepts credentials of the kinds `allowed`.
    pub(super) fn answer(&mut self, allowed: CredentialType) -> Result<Cred, RemoteError> {
        let user = self.url.user().or(self.credential.username).unwrap_or(SSH_USER);
        let answer = if allowed.is_username() && !self.shown.user {
            self.shown.user = true;
            Cred::username(user)
        } else if let Some(key) = self.credential.ssh_key.filter(|_| allowed.is_ssh_memory() && !self.shown.key) {
            self.shown.key = true;
            let passphrase = key.passphrase().map(|passphrase| passphrase.expose());
            Cred::ssh_key_from_memory(user, None, key.private().expose(), passphrase)
        } else if let Some(password) = self.password(user).filter(|_| allowed.is_user_pass_plaintext()) {
            self.shown.password = true;
            Cred::userpass_plaintext(user, password)
        } else if self.offered().is_empty() {
            return Err(self.missing());
        } else {
            return Err(self.refused(None));
        };
        answer.map_err(|error| self.refused(Some(Cause::new(error))))
    }

    /// Only without a key, and only for the password's own user.
    fn password(&self, user: &str) -> Option<&'a str> {
        let applies =
            self.credential.ssh_key.is_none() && self.credential.username == Some(user) && !self.shown.password;
        self.credential.password.filter(|_| applies).map(|password| password.expose())
    }

    /// The error for a server that wants a kind of credential that libgit2 cannot ask us for, or wants one too late to
    /// give it.
    pub(super) fn unasked(&self, source: Cause) -> RemoteError {
        if self.shown.key || self.shown.password { self.refused(Some(source)) } else { self.missing() }
    }

    /// The error for a key that libssh2 cannot use for signing.
    pub(super) fn unusable_key(&self, source: Cause) -> RemoteError {
        let encrypted = self.credential.ssh_key.is_some_and(SshKey::is_encrypted);
        RemoteError::UnusableKey { url: self.url.to_string(), encrypted, source }
    }

    /// The error for a server that rejects what it was offered.
    fn refused(&self, source: Option<Cause>) -> RemoteError {
        RemoteError::CredentialRefused { url: self.url.to_string(), offered: self.offered().join(", "), source }
    }

    /// The error for a server that wants a credential we do not have.
    fn missing(&self) -> RemoteError {
        RemoteError::CredentialMissing { url: self.url.to_string(), wanted: "ssh-privatekey".to_owned() }
    }

    /// The secret keys that apply here.
    fn offered(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.credential.ssh_key.is_some() {
            names.push("ssh-privatekey");
        }
        if self.credential.password.is_some() && self.shown.password {
            names.extend(["username", "password"]);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credentials::Credentials;
    use crate::credentials::Secret;
    use crate::remote::Errand;
    use crate::watch::Watch;

    const SSH: &str = "ssh://git.example.com/a";

    fn connect(url: &str, keys: &[(&str, &str)]) -> ConnectRequest {
        let secret: BTreeMap<_, _> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
        let mut errand = Errand::new(RepositoryUrl::parse(url).unwrap());
        errand.credentials = Credentials::from_secret_keys(secret).unwrap();
        ConnectRequest::new(errand, Watch::default())
    }

    #[test]
    fn without_a_key_the_error_names_the_one_to_add() {
        for keys in [&[][..], &[("token", "t")]] {
            let request = connect(SSH, keys);
            let allowed = CredentialType::SSH_MEMORY | CredentialType::USER_PASS_PLAINTEXT;
            match Authentication::new(&request).answer(allowed) {
                Err(RemoteError::CredentialMissing { wanted, .. }) => assert_eq!(wanted, "ssh-privatekey"),
                other => panic!("{:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn a_password_is_for_its_own_user_only_and_shown_once() {
        let keys = [("username", "u"), ("password", "p")];
        for (url, shown) in [("ssh://u@git.example.com/a", true), (SSH, true), ("ssh://git@git.example.com/a", false)] {
            let request = connect(url, &keys);
            let mut authentication = Authentication::new(&request);
            assert_eq!(authentication.answer(CredentialType::USER_PASS_PLAINTEXT).is_ok(), shown, "{url}");
            assert!(authentication.answer(CredentialType::USER_PASS_PLAINTEXT).is_err(), "{url}");
            authentication.start_over();
            assert_eq!(authentication.answer(CredentialType::USER_PASS_PLAINTEXT).is_ok(), shown, "{url}");
        }
    }

    #[test]
    fn the_user_is_asked_for_once() {
        let request = connect(SSH, &[]);
        let mut authentication = Authentication::new(&request);
        assert!(authentication.answer(CredentialType::USERNAME).is_ok());
        assert!(authentication.answer(CredentialType::USERNAME).is_err());
    }
}
