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
    Unreachable,
    Stalled,
    TooManyObjects,
    OutOfMemory,
    /// Our own disk.
    Local,
    Protocol,
}

/// Parts of libgit2's messages, in small letters; the first that occurs decides.
const MESSAGES: &[(&str, Failure)] = &[
    // A repository on this machine.
    ("failed to resolve path", Failure::RepositoryNotFound),
    ("could not find repository", Failure::RepositoryNotFound),
    ("cannot fetch a specific object from the remote repository", Failure::NoFetchById),
    ("server doesn't support shallow", Failure::NoShallow),
    // In place of the lines that a shallow fetch begins with, or of the end of negotiation, comes the server's refusal,
    // whose text libgit2 drops.
    ("unexpected packet type", Failure::NotOurRef),
    ("unexpected pkt type", Failure::NotOurRef),
    ("could not find appropriate mechanism for credentials", Failure::Unauthenticated),
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
        let listed = || MESSAGES.iter().find(|(text, _)| message.contains(text)).map(|(_, failure)| *failure);
        match (error.class(), error.code()) {
            // First what others have written, which may contain anything, then what contains a host's name.
            (ErrorClass::Ssh, ErrorCode::Eof) => Self::said(&message),
            (ErrorClass::Net, _) if message.starts_with("remote error: ") => Self::said(&message),
            (ErrorClass::Net | ErrorClass::Os, _) if message.contains("failed to connect") => Self::Unreachable,
            (_, ErrorCode::Timeout) => Self::Stalled,
            (class, code) => listed().unwrap_or_else(|| Self::by_class(class, code, &message)),
        }
    }

    fn by_class(class: ErrorClass, code: ErrorCode, message: &str) -> Self {
        match (class, code) {
            (_, ErrorCode::Auth) => Self::Unauthenticated,
            (ErrorClass::Odb, ErrorCode::NotFound) => Self::NotOurRef,
            (ErrorClass::Ssh, _) => Self::Unreachable,
            (ErrorClass::Net, _) if message.contains("socket") => Self::Unreachable,
            (ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::Odb | ErrorClass::Repository, _) => Self::Local,
            (ErrorClass::Config | ErrorClass::Reference, _) => Self::Local,
            (ErrorClass::NoMemory, _) => Self::OutOfMemory,
            _ => Self::Protocol,
        }
    }

    /// Reads what a server says before it hangs up.
    fn said(message: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(&["not our ref"]) {
            Self::NotOurRef
        } else if says(NOT_FOUND) {
            Self::RepositoryNotFound
        } else if says(FORBIDDEN) {
            Self::Forbidden
        } else {
            Self::Protocol
        }
    }

    /// The error to show. Those that need a decision first have become another one when they come here.
    pub(super) fn describe(self, error: &git2::Error, request: &ConnectRequest) -> RemoteError {
        let url = request.errand.url.to_string();
        let source = cause(error);
        match self {
            Self::RepositoryNotFound => RemoteError::RepositoryNotFound { url, source: Some(source) },
            Self::Forbidden => RemoteError::Forbidden { url, source: Some(source) },
            Self::Unreachable => RemoteError::Unreachable { url, source },
            Self::Stalled => RemoteError::Stalled {
                url,
                seconds: request.errand.limits.stall.as_secs(),
                phase: "an answer was awaited".to_owned(),
            },
            Self::TooManyObjects => RemoteError::TooManyObjects { url, limit: crate::sys::git::PACK_OBJECTS as u64 },
            Self::OutOfMemory => RemoteError::OutOfMemory { url },
            Self::Local => match request.errand.repository() {
                Some(path) => repository::unusable(&path, error),
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

/// What libgit2 says, which now and then is "no error".
pub(super) fn cause(error: &git2::Error) -> Cause {
    if error.class() == ErrorClass::None { Cause::new("libgit2 does not say why") } else { Cause::new(error.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As seen from libgit2 1.9.7 against real and hostile servers, or as they stand in its source.
    const SEEN: &[(ErrorClass, ErrorCode, &str, Failure)] = {
        use ErrorClass as Class;
        use ErrorCode as Code;
        use Failure as F;
        const PLAIN: ErrorCode = ErrorCode::GenericError;
        &[
            (Class::Invalid, PLAIN, "cannot fetch a specific object from the remote repository", F::NoFetchById),
            (Class::Net, Code::Invalid, "server doesn't support shallow", F::NoShallow),
            (Class::Net, PLAIN, "remote error: upload-pack: not our ref 0123", F::NotOurRef),
            (Class::Net, PLAIN, "unexpected packet type", F::NotOurRef),
            (Class::Net, PLAIN, "unexpected pkt type", F::NotOurRef),
            (Class::Net, PLAIN, "failed to resolve address for a.example: Name or service not known", F::Unreachable),
            (Class::Net, PLAIN, "failed to connect to a.example: Operation timed out", F::Unreachable),
            (Class::Os, PLAIN, "failed to connect to 127.0.0.1: Connection refused", F::Unreachable),
            (Class::Net, Code::Timeout, "could not read from socket: timed out", F::Stalled),
            (Class::Net, PLAIN, "could not write to socket: timed out", F::Stalled),
            (Class::Net, PLAIN, "error receiving data from socket: Connection reset by peer", F::Unreachable),
            (Class::Ssh, PLAIN, "failed to start SSH session: Failed getting banner", F::Unreachable),
            (Class::Ssh, PLAIN, "failed to start SSH session: Timed out waiting on socket", F::Stalled),
            (
                Class::Ssh,
                PLAIN,
                "failed to authenticate SSH session: Unable to extract public key from private key: Unsupported private \
                 key format",
                F::UnusableKey,
            ),
            (Class::Ssh, PLAIN, "failed to authenticate SSH session: Wrong passphrase for private key", F::UnusableKey),
            (Class::Ssh, Code::Eof, "fatal: '/x.git' does not appear to be a git repository", F::RepositoryNotFound),
            (Class::Ssh, Code::Eof, "fatal: '/timeout/proxy' is not a git repository", F::RepositoryNotFound),
            (Class::Ssh, Code::Eof, "ERROR: Repository not found.", F::RepositoryNotFound),
            (Class::Ssh, Code::Eof, "Permission denied to this deploy key", F::Forbidden),
            (Class::Net, PLAIN, "remote error: access denied or repository not exported: /x", F::RepositoryNotFound),
            (Class::Net, Code::Eof, "could not read refs from remote repository", F::Protocol),
            (
                Class::Os,
                Code::NotFound,
                "failed to resolve path '/x': No such file or directory",
                F::RepositoryNotFound,
            ),
            (Class::Repository, Code::NotFound, "could not find repository at '/x'", F::RepositoryNotFound),
            (Class::Odb, Code::NotFound, "object not found - no match for id (0123)", F::NotOurRef),
            (Class::Indexer, PLAIN, "too many objects", F::TooManyObjects),
            (Class::NoMemory, PLAIN, "Out of memory", F::OutOfMemory),
            (Class::Indexer, PLAIN, "wrong pack signature", F::Protocol),
            (Class::Zlib, PLAIN, "error reading from the zlib stream", F::Protocol),
            (Class::Os, PLAIN, "cannot extend packfile 'x': No space left on device", F::Local),
        ]
    };

    #[test]
    fn every_message_of_libgit2_becomes_the_failure_it_tells_of() {
        for (class, code, message, failure) in SEEN {
            let error = git2::Error::new(*code, *class, message);
            assert_eq!(Failure::of(&error), *failure, "{message}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_damaged_one() {
        let path = std::path::Path::new("/x");
        for (message, kind) in [
            ("cannot extend packfile 'x': No space left on device", crate::error::Kind::ResourceExhausted),
            ("failed to write chunk: Input/output error", crate::error::Kind::Internal),
        ] {
            let error = git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, message);
            assert_eq!(repository::unusable(path, &error).kind(), kind, "{message}");
        }
    }
}
