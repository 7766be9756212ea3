//! What is answered when a server asks who we are.
//!
//! libgit2 asks again and again until it is refused (libgit2's `credential.h`), so each kind of credential is shown once
//! per connection. Nothing is shown before the server asks, so a public repository never sees a secret, nor does plain
//! http or another server that the first one redirects to: libgit2 follows a redirect to another port or path of the
//! same host even when told to follow none.

use git2::Cred;
use git2::CredentialType;
use zeroize::Zeroizing;

use crate::credentials::HostCredential;
use crate::credentials::SshKey;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

/// Who we are where nothing says otherwise: the account of all large forges.
const SSH_USER: &str = "git";

/// How to answer one server.
pub(super) struct Authentication<'a> {
    url: &'a RepositoryUrl,
    credential: HostCredential<'a>,
    over_http: bool,
    token: Token,
    shown: Shown,
}

/// libgit2 sends a bearer token only as a fixed header of a connection. So the first connection goes without, and when
/// the server asks, a second one is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    NotAskedFor,
    AskedFor,
    InHeader,
}

/// What was shown on this connection.
#[derive(Debug, Default, Clone, Copy)]
struct Shown {
    user: bool,
    key: bool,
    password: bool,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        let host = request.url.host().unwrap_or_default();
        Self {
            url: &request.url,
            credential: request.credentials.for_host(host, host),
            over_http: request.credentials_over_http,
            token: Token::NotAskedFor,
            shown: Shown::default(),
        }
    }

    /// A new connection: everything may be shown once more.
    pub(super) fn start_over(&mut self) {
        self.shown = Shown::default();
        if self.token == Token::AskedFor {
            self.token = Token::InHeader;
        }
    }

    /// Whether the connection failed for want of a token that the next one will show.
    pub(super) fn wants_another_connection(&self) -> bool {
        self.token == Token::AskedFor
    }

    /// The header to send on every request of this connection.
    pub(super) fn header(&self) -> Option<Zeroizing<String>> {
        let token = self.credential.token.filter(|_| self.token == Token::InHeader)?;
        Some(Zeroizing::new(format!("Authorization: Bearer {}", token.expose())))
    }

    /// Answers the server at `asker`, which takes credentials of the kinds `allowed`. No answer without a reason: `None`
    /// means that the connection is to be made anew.
    pub(super) fn answer(&mut self, asker: &str, allowed: CredentialType) -> Result<Option<Cred>, RemoteError> {
        match self.url.scheme() {
            Scheme::Http | Scheme::Https => self.answer_http(asker, allowed),
            Scheme::Ssh | Scheme::Git | Scheme::File => self.answer_ssh(allowed).map(Some),
        }
    }

    fn answer_http(&mut self, asker: &str, allowed: CredentialType) -> Result<Option<Cred>, RemoteError> {
        if !is_same_server(asker, self.url) {
            return Err(RemoteError::Redirected { url: self.url.to_string(), source: None });
        }
        if self.credential.token.is_some() {
            self.ask_for_token()?;
            return Ok(None);
        }
        let Some(password) = self.credential.password else {
            return Err(self.missing("username and password, or token"));
        };
        if self.shown.password || !allowed.is_user_pass_plaintext() {
            return Err(self.refused(None));
        }
        self.check_encrypted()?;
        self.shown.password = true;
        let user = self.credential.username.or(self.url.user()).unwrap_or_default();
        Cred::userpass_plaintext(user, password.expose())
            .map(Some)
            .map_err(|error| self.refused(Some(Cause::new(error))))
    }

    fn answer_ssh(&mut self, allowed: CredentialType) -> Result<Cred, RemoteError> {
        let user = self.url.user().or(self.credential.username).unwrap_or(SSH_USER);
        let answer = if allowed.is_username() && !self.shown.user {
            self.shown.user = true;
            Cred::username(user)
        } else if let Some(key) = self.credential.ssh_key.filter(|_| allowed.is_ssh_memory() && !self.shown.key) {
            self.shown.key = true;
            let passphrase = key.passphrase().map(|passphrase| passphrase.expose());
            Cred::ssh_key_from_memory(user, None, key.private().expose(), passphrase)
        } else if let Some(password) = self.password_over_ssh(user).filter(|_| allowed.is_user_pass_plaintext()) {
            self.shown.password = true;
            Cred::userpass_plaintext(user, password)
        } else if self.offered().is_empty() {
            return Err(self.missing("ssh-privatekey"));
        } else {
            return Err(self.refused(None));
        };
        answer.map_err(|error| self.refused(Some(Cause::new(error))))
    }

    /// Without a key, and for the user whose password it is.
    fn password_over_ssh(&self, user: &str) -> Option<&'a str> {
        let applies =
            self.credential.ssh_key.is_none() && self.credential.username == Some(user) && !self.shown.password;
        self.credential.password.filter(|_| applies).map(|password| password.expose())
    }

    /// The server wants a credential of a kind that libgit2 cannot ask us for, such as `WWW-Authenticate: Bearer`, or wants
    /// one where it cannot be given any more.
    pub(super) fn unasked(&mut self, source: Cause) -> Result<(), RemoteError> {
        if self.credential.token.is_some() {
            return self.ask_for_token();
        }
        Err(if self.shown.key || self.shown.password { self.refused(Some(source)) } else { self.missing("token") })
    }

    fn ask_for_token(&mut self) -> Result<(), RemoteError> {
        if self.token == Token::InHeader {
            return Err(self.refused(None));
        }
        self.check_encrypted()?;
        self.token = Token::AskedFor;
        Ok(())
    }

    fn check_encrypted(&self) -> Result<(), RemoteError> {
        if self.url.scheme() == Scheme::Http && !self.over_http {
            return Err(RemoteError::CredentialOverHttp { url: self.url.to_string() });
        }
        Ok(())
    }

    /// The error for a key that libssh2 cannot sign with.
    pub(super) fn unusable_key(&self, source: Cause) -> RemoteError {
        let encrypted = self.credential.ssh_key.is_some_and(SshKey::is_encrypted);
        RemoteError::UnusableKey { url: self.url.to_string(), encrypted, source }
    }

    /// The error for a server that does not accept what it was shown.
    fn refused(&self, source: Option<Cause>) -> RemoteError {
        RemoteError::CredentialRefused { url: self.url.to_string(), offered: self.offered().join(", "), source }
    }

    /// The error for a server that wants something we do not have.
    fn missing(&self, wanted: &str) -> RemoteError {
        RemoteError::CredentialMissing { url: self.url.to_string(), wanted: wanted.to_owned() }
    }

    /// Names of the secret keys that apply here.
    fn offered(&self) -> Vec<&'static str> {
        let is_ssh = self.url.scheme() == Scheme::Ssh;
        let mut names = Vec::new();
        if is_ssh && self.credential.ssh_key.is_some() {
            names.push("ssh-privatekey");
        }
        if self.credential.password.is_some() && (!is_ssh || self.shown.password) {
            names.extend(["username", "password"]);
        }
        if !is_ssh && self.credential.token.is_some() {
            names.push("token");
        }
        names
    }
}

/// Whether the URL that libgit2 has arrived at is on the very server of `url`: same scheme, host and port.
fn is_same_server(asker: &str, url: &RepositoryUrl) -> bool {
    RepositoryUrl::parse(asker)
        .is_ok_and(|asker| (asker.scheme(), asker.host(), asker.port()) == (url.scheme(), url.host(), url.port()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credentials::Credentials;
    use crate::credentials::Secret;
    use crate::remote::libgit2::tests::request;

    const BASIC: CredentialType = CredentialType::USER_PASS_PLAINTEXT;
    const HTTPS: &str = "https://git.example.com/a";
    const HTTP: &str = "http://git.example.com/a";
    const SSH: &str = "ssh://git.example.com/a";

    fn connect(url: &str, keys: &[(&str, &str)]) -> ConnectRequest {
        let secret: BTreeMap<_, _> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
        let mut request = request(url);
        request.credentials = Credentials::from_secret_keys(secret).unwrap();
        request
    }

    #[test]
    fn a_password_is_shown_once_and_then_counts_as_refused() {
        let request = connect(HTTPS, &[("username", "u"), ("password", "p")]);
        let mut authentication = Authentication::new(&request);
        assert!(authentication.answer(HTTPS, BASIC).unwrap().is_some());
        match authentication.answer(HTTPS, BASIC) {
            Err(RemoteError::CredentialRefused { offered, .. }) => assert_eq!(offered, "username, password"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        authentication.start_over();
        assert!(authentication.answer(HTTPS, BASIC).is_ok(), "another connection may show it again");
    }

    #[test]
    fn a_token_waits_until_it_is_asked_for_and_then_goes_with_a_new_connection() {
        let request = connect(HTTPS, &[("token", "t")]);
        let mut authentication = Authentication::new(&request);
        authentication.start_over();
        assert!(authentication.header().is_none());
        assert!(authentication.answer(HTTPS, BASIC).unwrap().is_none());
        assert!(authentication.wants_another_connection());
        authentication.start_over();
        assert_eq!(authentication.header().unwrap().as_str(), "Authorization: Bearer t");
        assert!(!authentication.wants_another_connection());
        assert!(matches!(authentication.answer(HTTPS, BASIC), Err(RemoteError::CredentialRefused { .. })));
    }

    #[test]
    fn a_server_that_takes_only_tokens_gets_the_token() {
        let request = connect(HTTPS, &[("token", "t")]);
        let mut authentication = Authentication::new(&request);
        assert!(authentication.unasked(Cause::new("x")).is_ok() && authentication.wants_another_connection());
        let request = connect(HTTPS, &[("username", "u"), ("password", "p")]);
        match Authentication::new(&request).unasked(Cause::new("x")) {
            Err(RemoteError::CredentialMissing { wanted, .. }) => assert_eq!(wanted, "token"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_shown_over_plain_http_unless_allowed() {
        for keys in [&[("token", "t")][..], &[("username", "u"), ("password", "p")]] {
            let mut request = connect(HTTP, keys);
            let refused = Authentication::new(&request).answer(HTTP, BASIC);
            assert!(matches!(refused, Err(RemoteError::CredentialOverHttp { .. })));
            request.credentials_over_http = true;
            assert!(Authentication::new(&request).answer(HTTP, BASIC).is_ok());
        }
    }

    #[test]
    fn nothing_is_shown_to_a_server_that_was_redirected_to() {
        for keys in [&[("token", "t")][..], &[("username", "u"), ("password", "p")]] {
            let request = connect(HTTPS, keys);
            for elsewhere in [
                HTTP,
                "https://git.example.com:8443/a",
                "https://evil.example.com/a",
                "https://u:p@git.example.com/",
                "?",
            ] {
                let answer = Authentication::new(&request).answer(elsewhere, BASIC);
                assert!(matches!(answer, Err(RemoteError::Redirected { .. })), "{elsewhere}");
            }
            assert!(Authentication::new(&request).answer("https://git.example.com:443/b", BASIC).is_ok());
        }
    }

    #[test]
    fn without_a_credential_the_error_names_the_keys_to_add() {
        for (url, wanted) in [(HTTPS, "username and password, or token"), (SSH, "ssh-privatekey")] {
            let request = connect(url, &[]);
            match Authentication::new(&request).answer(url, BASIC) {
                Err(RemoteError::CredentialMissing { wanted: named, .. }) => assert_eq!(named, wanted),
                other => panic!("{:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn a_credential_of_another_host_is_not_shown() {
        let request = connect(HTTPS, &[("other.example.com.token", "t")]);
        assert!(matches!(
            Authentication::new(&request).answer(HTTPS, BASIC),
            Err(RemoteError::CredentialMissing { .. })
        ));
    }

    #[test]
    fn a_password_over_ssh_is_for_its_own_user_only() {
        let keys = [("username", "u"), ("password", "p")];
        for (url, shown) in [("ssh://u@git.example.com/a", true), (SSH, true), ("ssh://git@git.example.com/a", false)] {
            let request = connect(url, &keys);
            assert_eq!(Authentication::new(&request).answer(url, BASIC).is_ok(), shown, "{url}");
        }
    }

    #[test]
    fn the_ssh_user_is_asked_for_once() {
        let request = connect(SSH, &[]);
        let mut authentication = Authentication::new(&request);
        assert!(authentication.answer(SSH, CredentialType::USERNAME).is_ok());
        assert!(authentication.answer(SSH, CredentialType::USERNAME).is_err());
    }
}
