//! Where a repository is.
//!
//! We parse the URL before git does. A URL that passes means the same to git and to the server; everything else is
//! refused with advice what to write instead (CVE-2017-1000117, CVE-2025-1767). Each repository has exactly one
//! text here, which is also the store's key. Two spellings share it only if they send the very same bytes to the
//! server. All others stay apart, since a wrong merge would show one repository to readers of another.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::error::Kind;
use crate::spec::Host;
use crate::spec::HostError;
use crate::spec::choice::Choice;
use crate::spec::choice::choice;
use crate::spec::serde_as_text;

mod parse;
pub(crate) mod percent;
mod relative;

/// How to talk to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Smart HTTP over TLS.
    Https,
    /// Smart HTTP in the clear.
    Http,
    /// Over SSH; also what `user@host:path` means.
    Ssh,
    /// Git's own protocol, which has neither encryption nor authentication.
    Git,
    /// A repository on this machine.
    File,
}
choice!(Scheme { Https = "https", Http = "http", Ssh = "ssh", Git = "git", File = "file" });

impl Scheme {
    /// The port if none is written; `None` for files.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Https => Some(443),
            Self::Http => Some(80),
            Self::Ssh => Some(22),
            Self::Git => Some(9418),
            Self::File => None,
        }
    }
}

/// The URL of a repository, without password.
///
/// Prints and serialises in its canonical form, which [`RepositoryUrl::parse`] reads back as an equal value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RepositoryUrl {
    scheme: Scheme,
    /// Decoded.
    user: Option<String>,
    host: Option<Host>,
    /// Only a port that differs from the scheme's default.
    port: Option<u16>,
    /// The path sent to the server: decoded where git decodes it (ssh, git, file), as written where it does not (http).
    path: String,
}

impl RepositoryUrl {
    /// Longest URL accepted, in bytes.
    pub const MAX_LENGTH: usize = 4096;

    /// Reads `https://`, `http://`, `ssh://`, `git://` and `file://` URLs, and `[user@]host:path` as git does.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        parse::parse(text)
    }

    /// How to talk to the server.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user before the host, decoded.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host in lower case, an IPv6 address without brackets; `None` for files.
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref().map(Host::as_str)
    }

    /// The host's address, if it is written as one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.as_ref().and_then(Host::address)
    }

    /// The port to connect to; `None` for files.
    pub fn port(&self) -> Option<u16> {
        self.port.or(self.scheme.default_port())
    }

    /// The path sent to the server. Begins with a slash, except for `host:path`, where it may be relative to the
    /// server's start directory or begin with `~`. Percent signs are decoded except for http and https.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The store's key: the same for spellings that send the same bytes to the same server, different otherwise.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// The directory name that `git clone` would choose: the path's last part without `.git`. May be empty.
    pub fn base_name(&self) -> &str {
        let path = self.path.trim_end_matches('/');
        let path = path.strip_suffix("/.git").unwrap_or(path).trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or(path);
        last.strip_suffix(".git").unwrap_or(last)
    }

    /// Whether this is `host:path` with a path that begins neither at the server's root nor at a home directory.
    fn is_relative(&self) -> bool {
        !self.path.starts_with(['/', '~'])
    }

    /// The path as written in a URL: one that begins with `~` gets a leading slash.
    fn rooted_path(&self) -> Cow<'_, str> {
        if self.path.starts_with('~') { format!("/{}", self.path).into() } else { self.path.as_str().into() }
    }

    /// `scheme://user@host:port`.
    fn origin(&self) -> String {
        let user = self.user().map(|user| format!("{}@", percent::encode_user(user))).unwrap_or_default();
        let host = self.host.as_ref().map(Host::to_string).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{user}{host}{port}", self.scheme)
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Https | Scheme::Http => write!(f, "{}{}", self.origin(), self.path),
            Scheme::Ssh if self.is_relative() => {
                let host = self.host.as_ref().map(Host::to_string).unwrap_or_default();
                match self.user() {
                    Some(user) => write!(f, "{user}@{host}:{}", self.path),
                    None => write!(f, "{host}:{}", self.path),
                }
            }
            Scheme::Ssh | Scheme::Git | Scheme::File => {
                write!(f, "{}{}", self.origin(), percent::encode_path(&self.rooted_path()))
            }
        }
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

serde_as_text!(RepositoryUrl);

/// Why a text is not a repository URL. Never quotes the text, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL is empty.
    #[error("the URL is empty")]
    Empty,
    /// The URL is too long.
    #[error("the URL is longer than {} bytes", RepositoryUrl::MAX_LENGTH)]
    TooLong,
    /// A character that a later layer would cut off, hide or read differently.
    #[error(
        "the URL has the character {character:?} at byte {offset}, which is refused; encode it with percent signs if it is meant"
    )]
    Character {
        /// The character.
        character: char,
        /// Its position.
        offset: usize,
    },
    /// Such a character at one end, where it is easily overlooked.
    #[error("the URL {edge} with {}; remove it{}", name_of(*character), where_from(*character))]
    Edge {
        /// "begins", "ends".
        edge: &'static str,
        /// The character.
        character: char,
    },
    /// A backslash.
    #[error("the URL has a backslash; write / between its parts")]
    Backslash,
    /// A part could be taken for an option of a command.
    #[error("the {part} begins with -, which a command could take for an option")]
    Option {
        /// "URL", "user", "path".
        part: &'static str,
    },
    /// More `../` in a submodule's URL than the superproject's has parts.
    #[error("the relative URL has more ../ than the superproject's URL has parts after its host")]
    LeavesHost,
    /// A submodule on this machine, of a repository that is not.
    #[error("it is a repository of this machine, and the one that names it is not")]
    FileSubmodule,
    /// `ext::…` and similar, which run commands.
    #[error("git's remote helpers (name::address) are never run; write an https or ssh URL")]
    RemoteHelper,
    /// An unknown scheme.
    #[error("the scheme {scheme:?} is not known; write https, http, ssh, git or file")]
    UnknownScheme {
        /// In lower case.
        scheme: String,
    },
    /// `https:/host` or `file:path`.
    #[error("{scheme}: must be followed by two slashes: {scheme}://…")]
    MissingSlashes {
        /// The scheme.
        scheme: Scheme,
    },
    /// A path on this machine.
    #[error("this is a local path; write file:///absolute/path if it is meant")]
    LocalPath,
    /// `C:\x`, `c:/x`.
    #[error("this is a path on a Windows drive, or a host name of one letter; neither is supported")]
    Drive,
    /// A user and password before the host.
    #[error(
        "the URL holds a password; take it out and put it into a secret, as the keys username and password, or token"
    )]
    Password,
    /// A common form of an access token, as the user before the host.
    #[error(
        "the user before the host looks like an access token; take it out and put it into a secret, as the key token, or \
         as password beside a username"
    )]
    Token,
    /// The user before the host is invalid.
    #[error("the user before the host is refused: {reason}")]
    User {
        /// The rule it violates.
        reason: &'static str,
    },
    /// The host is invalid.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A host in a file URL.
    #[error("a file URL has no host; write file:///absolute/path")]
    FileHost,
    /// Not a number between 1 and 65535.
    #[error("what follows the host's colon is not a port, 1 to 65535")]
    Port,
    /// `host:7999/path`, which git reads as a path on port 22.
    #[error(
        "what follows the host's colon is a path, not a port, unless the URL begins with ssh://; for the port write \
         {with_port}, for a path that begins with this number {with_path}"
    )]
    PortInPath {
        /// With the number as the port.
        with_port: String,
        /// With the number as the path's first part.
        with_path: String,
    },
    /// The path is missing.
    #[error("the URL ends after the host; write the repository's path too")]
    NoPath,
    /// The path is invalid.
    #[error("the path is refused: {reason}")]
    Path {
        /// The rule it violates.
        reason: &'static str,
    },
    /// `?…` or `#…`.
    #[error(
        "the URL has {character:?}: a query or fragment names no repository, and a token belongs into a secret; encode \
         it (%3F, %23) if it is part of an https path"
    )]
    QueryOrFragment {
        /// The character.
        character: char,
    },
}

fn name_of(character: char) -> String {
    match character {
        ' ' => "a space".to_owned(),
        '\n' => "a line break".to_owned(),
        '\r' => "a carriage return".to_owned(),
        '\t' => "a tab".to_owned(),
        other => format!("the character {other:?}"),
    }
}

fn where_from(character: char) -> &'static str {
    match character {
        '\n' | '\r' => {
            "; in YAML, a block that begins with | or > ends with one, and a block that begins with |- does not"
        }
        _ => "",
    }
}

impl UrlError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

#[cfg(test)]
mod tests;
