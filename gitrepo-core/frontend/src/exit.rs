//! Exit statuses, after `sysexits.h`.

use std::process::ExitCode;

use gitrepo_core::error::Kind;

/// Returns the exit status for a failure of this kind.
pub fn status(kind: Kind) -> ExitCode {
    ExitCode::from(number(kind))
}

/// Prints help, the version or the usage error. Help and version succeed; anything else is a malformed request.
pub fn usage(usage: &clap::Error) -> ExitCode {
    // If printing fails, there is nowhere to report it.
    usage.print().ok();
    if usage.use_stderr() { status(Kind::InvalidRequest) } else { ExitCode::SUCCESS }
}

fn number(kind: Kind) -> u8 {
    match kind {
        Kind::InvalidRequest | Kind::FailedPrecondition | Kind::AlreadyExists => 64,
        Kind::Unsupported | Kind::BadData => 65,
        Kind::NotFound => 66,
        Kind::Unavailable => 69,
        Kind::Corrupt | Kind::Internal => 70,
        Kind::ResourceExhausted => 73,
        Kind::Timeout | Kind::Busy => 75,
        Kind::Unauthenticated | Kind::PermissionDenied => 77,
        Kind::Cancelled => 130,
    }
}
