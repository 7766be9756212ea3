//! Exit statuses, after `sysexits.h`.

use std::process::ExitCode;

use gitrepo_core::error::Kind;

/// The exit status of a failure of this kind.
pub(crate) fn code(kind: Kind) -> ExitCode {
    ExitCode::from(match kind {
        Kind::InvalidRequest | Kind::FailedPrecondition | Kind::AlreadyExists => 64,
        Kind::NotFound => 66,
        Kind::Unavailable => 69,
        Kind::Corrupt | Kind::Internal => 70,
        Kind::ResourceExhausted => 73,
        Kind::Timeout | Kind::Busy => 75,
        Kind::Unauthenticated | Kind::PermissionDenied => 77,
        Kind::Cancelled => 130,
    })
}
