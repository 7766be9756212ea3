//! The user and password that a proxy wants.

use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::credentials::Secret;
use crate::error::Cause;

/// Longest file, in bytes.
const LONGEST: usize = 4096;

/// A user and a password. Its `Debug` shows neither.
#[derive(Debug, Clone)]
pub struct ProxyLogin {
    user: Secret,
    password: Secret,
}

/// Why a file holds no login. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read {
        /// The system's error.
        #[source]
        source: Cause,
    },
    /// The file has another form.
    #[error("it holds neither a line user:password nor two lines, the user and the password")]
    Form,
}

impl ProxyLogin {
    /// A user and a password.
    pub fn new(user: Secret, password: Secret) -> Self {
        Self { user, password }
    }

    /// Reads a file with a user and a password, each on a line of its own, or on one line as `user:password`.
    pub fn read(path: &Path) -> Result<Self, LoginError> {
        let text = read(path).map_err(|source| LoginError::Read { source: Cause::new(source) })?;
        Self::parse(&text).ok_or(LoginError::Form)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> =
            text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()).collect();
        let (user, password) = match lines[..] {
            [user, password] => (user, password),
            [line] => line.split_once(':')?,
            _ => return None,
        };
        Self::checked(Secret::new(user.to_owned()), Secret::new(password.to_owned()))
    }

    /// `None` for what cannot be sent (RFC 7617): a colon would end the user's name.
    pub(super) fn checked(user: Secret, password: Secret) -> Option<Self> {
        let is_sendable = |secret: &Secret| !secret.expose().chars().any(char::is_control);
        let is_sound = !user.expose().is_empty() && !user.expose().contains(':');
        (is_sound && is_sendable(&user) && is_sendable(&password)).then(|| Self::new(user, password))
    }

    /// The user.
    pub fn user(&self) -> &Secret {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &Secret {
        &self.password
    }
}

impl PartialEq for ProxyLogin {
    fn eq(&self, other: &Self) -> bool {
        self.user.expose() == other.user.expose() && self.password.expose() == other.password.expose()
    }
}

impl Eq for ProxyLogin {}

/// Reads a short text into memory that is wiped. A pipe in its place must not block.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // Never grows, which would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 1));
    let length = file.take(LONGEST as u64 + 1).read_to_string(&mut text)?;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is longer than 4096 bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String)> {
        let login = ProxyLogin::parse(text)?;
        Some((login.user().expose().to_owned(), login.password().expose().to_owned()))
    }

    #[test]
    fn a_login_is_one_line_or_two() {
        for (text, user, password) in [
            ("alice:s3cret", "alice", "s3cret"),
            ("alice:s3:cret\n", "alice", "s3:cret"),
            ("alice\ns3:cret\n", "alice", "s3:cret"),
            ("alice\r\ns3 cret\r\n", "alice", "s3 cret"),
            ("alice:", "alice", ""),
        ] {
            assert_eq!(parsed(text), Some((user.to_owned(), password.to_owned())), "{text}");
        }
        for text in ["", "\n", "alice", ":s3cret", "a\nb\nc", "al:ice\ns3cret", "alice:s\u{7}"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_file_is_read_and_its_faults_are_told_without_its_text() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("login");
        assert!(matches!(ProxyLogin::read(&path), Err(LoginError::Read { .. })));
        std::fs::write(&path, "canary").unwrap();
        let error = ProxyLogin::read(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        std::fs::write(&path, "alice\ncanary\n").unwrap();
        let login = ProxyLogin::read(&path).unwrap();
        assert_eq!(login.password().expose(), "canary");
        assert!(!format!("{login:?}").contains("canary") && !format!("{login:?}").contains("alice"));
        std::fs::write(&path, "x".repeat(LONGEST + 1)).unwrap();
        assert!(matches!(ProxyLogin::read(&path), Err(LoginError::Read { .. })));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(ProxyLogin::read(&path), Err(LoginError::Read { .. })));
    }
}
