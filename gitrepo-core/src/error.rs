//! The vocabulary of all errors: the kind of failure, and a cause that can cross a process boundary.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// The kind of a failure: all that a frontend looks at to choose a gRPC code or an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The request is malformed or can never be allowed.
    InvalidRequest,
    /// The request is valid, but not in the present state.
    FailedPrecondition,
    /// The target already serves something else.
    AlreadyExists,
    /// The repository, revision or subdirectory does not exist.
    NotFound,
    /// A credential is missing, wrong or expired, or the host's key is unknown or has changed.
    Unauthenticated,
    /// The caller is known, but the remote or the policy denies access.
    PermissionDenied,
    /// The network, DNS or the remote is down, the store is missing, or its filesystem fails.
    Unavailable,
    /// The work took too long, or is still running.
    Timeout,
    /// Another operation on this volume is in progress.
    Busy,
    /// The caller gave up.
    Cancelled,
    /// The remote's repository is of a kind that this version cannot serve.
    Unsupported,
    /// The repository's own data is damaged or hostile.
    BadData,
    /// Disk space, inodes or a configured limit ran out.
    ResourceExhausted,
    /// Data on this node's disk is damaged.
    Corrupt,
    /// A bug of ours.
    Internal,
}

/// The text of an underlying error, scrubbed: no control characters, bounded length.
///
/// Errors of C libraries and of remotes reach the parent as text. A remote controls parts of that text (CVE-2024-52005), so
/// it is cleaned before it becomes part of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause(String);

impl Cause {
    /// Longest text kept, in bytes.
    const LIMIT: usize = 1024;

    /// Keeps the printable part of `text`, up to 1 KiB.
    pub fn new(text: impl fmt::Display) -> Self {
        let mut clean = String::new();
        for character in text.to_string().trim().chars() {
            let printable = if character.is_control() { ' ' } else { character };
            if clean.len() + printable.len_utf8() > Self::LIMIT {
                clean.push('…');
                break;
            }
            clean.push(printable);
        }
        Self(clean)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Returns an error and all its causes on one line, outermost first. Every frontend shows errors this way.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Whether the error means that the device or server behind a filesystem failed, is gone, or became read-only because
/// of that. The filesystem may recover, so no decision is based on such an error.
fn is_storage_fault(error: &std::io::Error) -> bool {
    const FAULTS: [i32; 10] = [
        libc::EIO,
        libc::ENXIO,
        libc::ENODEV,
        libc::EROFS,
        libc::ENOMEDIUM,
        libc::ESTALE,
        libc::EREMOTEIO,
        libc::EUCLEAN,
        libc::ENOTCONN,
        libc::ESHUTDOWN,
    ];
    error.raw_os_error().is_some_and(|errno| FAULTS.contains(&errno))
}

/// Returns the kind of an input/output error on our own files.
pub(crate) fn io_kind(error: &std::io::Error) -> Kind {
    use std::io::ErrorKind;
    if is_storage_fault(error) {
        return Kind::Unavailable;
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Kind::ResourceExhausted,
        ErrorKind::OutOfMemory => Kind::ResourceExhausted,
        ErrorKind::PermissionDenied => Kind::FailedPrecondition,
        // A tree may contain names and link targets too long for this filesystem.
        ErrorKind::InvalidFilename => Kind::FailedPrecondition,
        // What the kernel or the filesystem of this node cannot do.
        ErrorKind::Unsupported => Kind::FailedPrecondition,
        ErrorKind::TimedOut => Kind::Timeout,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_that_fails_is_unavailable_and_one_that_is_full_is_not() {
        let kind = |errno| io_kind(&std::io::Error::from_raw_os_error(errno));
        for errno in [libc::EIO, libc::EROFS, libc::ESTALE, libc::ENOTCONN, libc::ENODEV, libc::EUCLEAN] {
            assert_eq!(kind(errno), Kind::Unavailable, "{errno}");
        }
        assert_eq!(kind(libc::ENOSPC), Kind::ResourceExhausted);
        assert_eq!(kind(libc::EACCES), Kind::FailedPrecondition);
        assert_eq!(kind(libc::ENOENT), Kind::Internal);
    }

    #[test]
    fn cause_has_no_control_characters_and_is_bounded() {
        let cause = Cause::new("remote said \x1b[31mred\r\nhello\0");
        assert_eq!(cause.to_string(), "remote said  [31mred  hello ");
        assert!(Cause::new("ä".repeat(4096)).to_string().len() <= Cause::LIMIT + '…'.len_utf8());
    }
}
