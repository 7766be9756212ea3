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
        let Some(password) = self.credential.password else { return Err(self.missing()) };
        if self.shown.password || !allowed.is_user_pass_plaintext() {
            return Err(self.refused(None));
        }
        self.check_encrypted()?;
        self.shown.password = true;
        let user = self.credential.username.or(self.url.user()).unwrap_or_default();
        Cred::userpass_plaintext(user, password.expose()).map(Some).map_err(|error| self.refused(Some(Cause::new(error))))
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
            return Err(self.missing());
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
        Err(if self.offered().is_empty() { self.missing() } else { self.refused(Some(source)) })
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

    /// The error for a server that does not accept what it was shown.
    pub(super) fn refused(&self, source: Option<Cause>) -> RemoteError {
        RemoteError::CredentialRefused { url: self.url.to_string(), offered: self.offered().join(", "), source }
    }

    /// The error for a server that wants something we do not have.
    fn missing(&self) -> RemoteError {
        let wanted = match self.url.scheme() {
            Scheme::Ssh => "ssh-privatekey",
            _ => "username and password, or token",
        };
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
    RepositoryUrl::parse(asker).is_ok_and(|asker| {
        (asker.scheme(), asker.host(), asker.port()) == (url.scheme(), url.host(), url.port())
    })
}
