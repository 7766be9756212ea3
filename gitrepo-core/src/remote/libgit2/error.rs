//! Classifies libgit2's errors.
//!
//! libgit2 has few error codes, so most failures of a conversation differ only in their text. The texts are those of
//! the one version that is built in; a test checks the class of each. A text sent by the remote can only choose among
//! errors about the remote itself.

use git2::ErrorClass;
use git2::ErrorCode;

use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::remote::repository;

/// The failure, as far as it decides the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server requires a credential but does not ask through libgit2, or rejects the one it was sent.
    Unauthenticated,
    /// The given SSH key is not usable.
    UnusableKey,
    /// The server serves commits only by ref name.
    NoFetchById,
    /// The server does not support shallow fetches.
    NoShallow,
    /// The server does not have the requested object, or refuses to serve it.
    NotOurRef,
    RepositoryNotFound,
    Forbidden,
    Unreachable,
    Stalled,
    TooManyObjects,
    OutOfMemory,
    /// The local disk.
    Local,
    Protocol,
}

/// Parts of libgit2's messages in lower case; the first match decides.
const MESSAGES: &[(&str, Failure)] = &[
    // A repository on this machine.
    ("failed to resolve path", Failure::RepositoryNotFound),
    ("could not find repository", Failure::RepositoryNotFound),
    ("cannot fetch a specific object from the remote repository", Failure::NoFetchById),
    ("server doesn't support shallow", Failure::NoShallow),
    // The server's refusal, whose text libgit2 drops. It comes instead of the first lines of a shallow fetch, or of the
    // end of the negotiation.
    ("unexpected packet type", Failure::NotOurRef),
    ("unexpected pkt type", Failure::NotOurRef),
    ("could not find appropriate mechanism for credentials", Failure::Unauthenticated),
    // From libssh2, for a key that it cannot read, at least not with this passphrase.
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

/// Servers' messages on standard error, or after "ERR", for a missing repository. git and git-daemon, GitHub, GitLab,
/// Gitea, Bitbucket, Gerrit.
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

/// Their messages for a repository without access.
const FORBIDDEN: &[&str] = &["permission denied", "access denied", "denied", "forbidden", "not allowed"];

impl Failure {
    /// Classifies an error of a conversation.
    pub(super) fn of(error: &git2::Error) -> Self {
        let message = error.message().to_lowercase();
        let listed = || MESSAGES.iter().find(|(text, _)| message.contains(text)).map(|(_, failure)| *failure);
        match (error.class(), error.code()) {
            // First texts from others, which may contain anything, then texts with a host's name.
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

    /// Classifies a server's message before it hangs up.
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

    /// The error to show. Errors that needed a decision have been replaced before.
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

/// libgit2's message, which is sometimes "no error".
pub(super) fn cause(error: &git2::Error) -> Cause {
    if error.class() == ErrorClass::None { Cause::new("libgit2 does not say why") } else { Cause::new(error.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen from libgit2 1.9.7 with real and hostile servers, or taken from its source.
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
