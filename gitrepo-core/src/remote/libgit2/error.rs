//! From what libgit2 says to what went wrong.
//!
//! libgit2 has few error codes, and most failures of a conversation are told apart by their text alone. The texts are
//! those of the one version that is built in; a test holds each of them against what it must become. Where the text comes
//! from the remote, it can only choose among errors about itself.

use git2::ErrorClass;
use git2::ErrorCode;

use super::repository;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// What went wrong, as far as it decides what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server wants to know who we are, without a question that libgit2 could pass on, or refuses what it was shown.
    Unauthenticated,
    /// The SSH key that was given cannot be used.
    UnusableKey,
    /// The server gives out commits by the name of a ref only.
    NoFetchById,
    /// The server cannot cut history short.
    NoShallow,
    /// The server does not know what it was asked for, or does not give it out.
    NotOurRef,
    RepositoryNotFound,
    Forbidden,
    Redirected,
    Certificate,
    Unreachable,
    Stalled,
    TooManyObjects,
    /// Our own disk.
    Local,
    Protocol,
}

/// Parts of libgit2's messages, in small letters; the first that occurs decides.
const MESSAGES: &[(&str, Failure)] = &[
    ("cannot fetch a specific object from the remote repository", Failure::NoFetchById),
    ("server doesn't support shallow", Failure::NoShallow),
    ("not our ref", Failure::NotOurRef),
    // In place of the lines that a shallow fetch begins with comes the server's refusal, whose text libgit2 drops.
    ("unexpected packet type", Failure::NotOurRef),
    ("cannot redirect from", Failure::Redirected),
    ("unexpected redirect", Failure::Redirected),
    ("redirect without location", Failure::Redirected),
    ("too many redirects", Failure::Redirected),
    ("certificate is invalid", Failure::Certificate),
    ("hostname does not match certificate", Failure::Certificate),
    ("did not provide a certificate", Failure::Certificate),
    ("proxy", Failure::Unreachable),
    ("server requires authentication", Failure::Unauthenticated),
    ("unexpected authentication failure", Failure::Unauthenticated),
    ("could not find appropriate mechanism for credentials", Failure::Unauthenticated),
    ("unexpected http status code: 404", Failure::RepositoryNotFound),
    ("unexpected http status code: 410", Failure::RepositoryNotFound),
    ("unexpected http status code: 401", Failure::Unauthenticated),
    ("unexpected http status code: 403", Failure::Forbidden),
    ("unexpected http status code: 408", Failure::Unreachable),
    ("unexpected http status code: 429", Failure::Unreachable),
    ("unexpected http status code: 5", Failure::Unreachable),
    // libssh2, for a key that it cannot read, or not with this passphrase.
    ("unable to extract public key", Failure::UnusableKey),
    ("wrong passphrase", Failure::UnusableKey),
    ("unable to parse private key", Failure::UnusableKey),
    ("invalid private key", Failure::UnusableKey),
    ("timed out", Failure::Stalled),
    ("timeout", Failure::Stalled),
    ("failed to resolve address", Failure::Unreachable),
    ("failed to connect", Failure::Unreachable),
    ("too many objects", Failure::TooManyObjects),
];

/// What servers write to standard error, or after "ERR", when they have no such repository. git and git-daemon, GitHub,
/// GitLab, Gitea, Bitbucket, Gerrit.
const NOT_FOUND: &[&str] = &[
    "does not appear to be a git repository",
    "not a git repository",
    "repository not found",
    "repository not exported",
    "could not be found",
    "does not exist",
    "not found",
    "no such",
];

/// The same, when they have it.
const FORBIDDEN: &[&str] = &["permission denied", "access denied", "denied", "forbidden", "not allowed"];

impl Failure {
    /// Reads an error of a conversation.
    pub(super) fn of(error: &git2::Error) -> Self {
        let message = error.message().to_lowercase();
        let listed = MESSAGES.iter().find(|(text, _)| message.contains(text)).map(|(_, failure)| *failure);
        match (error.class(), error.code()) {
            // Before the list: "timed out" may be part of it.
            (ErrorClass::Net | ErrorClass::Os, _) if message.contains("failed to connect") => Self::Unreachable,
            (_, ErrorCode::Timeout) => Self::Stalled,
            (_, ErrorCode::Certificate) => listed.unwrap_or(Self::Certificate),
            _ if listed.is_some() => listed.unwrap_or(Self::Protocol),
            (_, ErrorCode::Auth) => Self::Unauthenticated,
            (ErrorClass::Ssh, ErrorCode::Eof) => Self::said(&message),
            (ErrorClass::Net, _) if message.starts_with("remote error: ") => Self::said(&message),
            (ErrorClass::Ssh | ErrorClass::Ssl, _) => Self::Unreachable,
            (ErrorClass::Net, _) if message.contains("socket") || message.contains("ssl") => Self::Unreachable,
            (ErrorClass::Os, _) if message.contains("ssl") => Self::Unreachable,
            (ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::Odb | ErrorClass::Repository, _) => Self::Local,
            (ErrorClass::Config | ErrorClass::Reference | ErrorClass::NoMemory, _) => Self::Local,
            _ => Self::Protocol,
        }
    }

    /// Reads what a server says before it hangs up.
    fn said(message: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(NOT_FOUND) {
            Self::RepositoryNotFound
        } else if says(FORBIDDEN) {
            Self::Forbidden
        } else {
            Self::Protocol
        }
    }

    /// The error to show. Those that need a decision first have become another one when they come here.
    pub(super) fn describe(self, error: &git2::Error, request: &ConnectRequest) -> RemoteError {
        let url = request.url.to_string();
        let source = Cause::new(error.message());
        match self {
            Self::RepositoryNotFound => RemoteError::RepositoryNotFound { url, source: Some(source) },
            Self::Forbidden => RemoteError::Forbidden { url, source: Some(source) },
            Self::Redirected => RemoteError::Redirected { url, source: Some(source) },
            Self::Certificate => RemoteError::Certificate { url, source },
            Self::Unreachable => RemoteError::Unreachable { url, source },
            Self::Stalled => RemoteError::Stalled {
                url,
                seconds: request.limits.stall.as_secs(),
                phase: "an answer was awaited".to_owned(),
            },
            Self::TooManyObjects => RemoteError::TooManyObjects { url, limit: crate::sys::git::PACK_OBJECTS as u64 },
            Self::Local => match &request.repository {
                Some(path) => repository::unusable(path, error),
                None => RemoteError::Protocol { url, source },
            },
            Self::Unauthenticated
            | Self::UnusableKey
            | Self::NoFetchById
            | Self::NoShallow
            | Self::NotOurRef
            | Self::Protocol => RemoteError::Protocol { url, source },
        }
    }
}
