//! Credentials for SSH servers. Each is offered once.

use ssh2::KeyboardInteractivePrompt;
use ssh2::Prompt;

use super::Line;
use crate::credentials::HostCredential;
use crate::credentials::SshKey;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;

/// The default user: the account of all large forges.
const SSH_USER: &str = "git";

/// libssh2's codes for a private key that it cannot read, at least not with this passphrase (`libssh2.h`):
/// `LIBSSH2_ERROR_METHOD_NONE`, `_FILE`, `_KEYFILE_AUTH_FAILED`, `_PUBLICKEY_PROTOCOL`.
const UNUSABLE_KEY: [i32; 3] = [-17, -16, -48];

/// Proves who we are to the server.
pub(super) fn authenticate(line: &mut Line<'_>, request: &ConnectRequest) -> Result<(), RemoteError> {
    let url = &request.errand.url;
    let host = url.host().unwrap_or_default();
    let credential = request.errand.credentials.for_host(host, host);
    let user = url.user().or(credential.username).unwrap_or(SSH_USER);
    let session = line.session.clone();
    // Asking for the methods tries none at all, which some servers accept.
    let methods = line.wait(|| session.auth_methods(user).map(str::to_owned))?;
    if session.authenticated() {
        return Ok(());
    }
    let methods = methods.map_err(|error| refused(url, &[], &error))?;
    let takes = |method| methods.split(',').any(|offered| offered == method);
    let offered = match (credential.ssh_key, password(&credential, user)) {
        (Some(key), _) if takes("publickey") => {
            let passphrase = key.passphrase().map(|passphrase| passphrase.expose());
            let private = key.private().expose();
            let outcome = line.wait(|| session.userauth_pubkey_memory(user, None, private, passphrase))?;
            return outcome.map_err(|error| match error.code() {
                ssh2::ErrorCode::Session(code) if UNUSABLE_KEY.contains(&code) => unusable(url, key, &error),
                _ => refused(url, &["ssh-privatekey"], &error),
            });
        }
        (Some(_), _) => vec!["ssh-privatekey"],
        (None, Some(password)) if takes("password") => {
            let outcome = line.wait(|| session.userauth_password(user, password))?;
            return outcome.map_err(|error| refused(url, &["username", "password"], &error));
        }
        (None, Some(password)) if takes("keyboard-interactive") => {
            let mut answers = Answers(password);
            let outcome = line.wait(|| session.userauth_keyboard_interactive(user, &mut answers))?;
            return outcome.map_err(|error| refused(url, &["username", "password"], &error));
        }
        (None, Some(_)) => vec!["username", "password"],
        (None, None) => vec![],
    };
    let said = format!("it takes {methods}");
    match offered.is_empty() {
        true => Err(RemoteError::CredentialMissing {
            url: url.to_string(),
            wanted: "ssh-privatekey".to_owned(),
            source: None,
        }),
        false => Err(refused(url, &offered, &said)),
    }
}

/// Only without a key, and only for the password's own user.
fn password<'a>(credential: &HostCredential<'a>, user: &str) -> Option<&'a str> {
    let password = credential.password.filter(|_| credential.username == Some(user));
    password.map(|password| password.expose())
}

fn refused(url: &RepositoryUrl, offered: &[&str], said: &impl std::fmt::Display) -> RemoteError {
    RemoteError::CredentialRefused { url: url.to_string(), offered: offered.join(", "), source: Some(Cause::new(said)) }
}

fn unusable(url: &RepositoryUrl, key: &SshKey, error: &ssh2::Error) -> RemoteError {
    RemoteError::UnusableKey { url: url.to_string(), encrypted: key.is_encrypted(), source: Cause::new(error) }
}

/// Answers each question with the password, as `ssh` with a password prompt does.
struct Answers<'a>(&'a str);

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'a>(&mut self, _username: &str, _instructions: &str, prompts: &[Prompt<'a>]) -> Vec<String> {
        prompts.iter().map(|_| self.0.to_owned()).collect()
    }
}
