//! Maps the kind of a failure to the gRPC code. Nothing else determines the code.

use gitrepo_core::error::Kind;
use tonic::Code;
use tonic::Status;

use crate::failure::Failure;

/// The code for failures of this kind.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidRequest => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::NotFound => Code::NotFound,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Busy => Code::Aborted,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unsupported => Code::FailedPrecondition,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Corrupt | Kind::Internal => Code::Internal,
    }
}

/// The name of a kind in label values and log fields.
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest => "invalidRequest",
        Kind::FailedPrecondition => "failedPrecondition",
        Kind::AlreadyExists => "alreadyExists",
        Kind::NotFound => "notFound",
        Kind::Unauthenticated => "unauthenticated",
        Kind::PermissionDenied => "permissionDenied",
        Kind::Unavailable => "unavailable",
        Kind::Timeout => "timeout",
        Kind::Busy => "busy",
        Kind::Cancelled => "cancelled",
        Kind::Unsupported => "unsupported",
        Kind::ResourceExhausted => "resourceExhausted",
        Kind::Corrupt => "corrupt",
        Kind::Internal => "internal",
    }
}

/// Without details, as the kubelet expects.
impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::new(code(failure.kind), failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(Kind, Code, bool); 14] = [
        (Kind::InvalidRequest, Code::InvalidArgument, true),
        (Kind::FailedPrecondition, Code::FailedPrecondition, true),
        (Kind::AlreadyExists, Code::AlreadyExists, true),
        (Kind::NotFound, Code::NotFound, true),
        (Kind::Unauthenticated, Code::Unauthenticated, true),
        (Kind::PermissionDenied, Code::PermissionDenied, true),
        (Kind::Unavailable, Code::Unavailable, false),
        (Kind::Timeout, Code::DeadlineExceeded, false),
        (Kind::Busy, Code::Aborted, false),
        (Kind::Cancelled, Code::Cancelled, false),
        (Kind::Unsupported, Code::FailedPrecondition, true),
        (Kind::ResourceExhausted, Code::ResourceExhausted, false),
        (Kind::Corrupt, Code::Internal, true),
        (Kind::Internal, Code::Internal, true),
    ];

    #[test]
    fn every_kind_has_its_code_its_word_and_its_finality() {
        for (kind, code, is_final) in TABLE {
            let failure = Failure::new(kind, "why");
            assert_eq!(failure.is_final(), is_final, "{kind:?}");
            let status = Status::from(failure);
            assert_eq!((status.code(), status.message(), status.details()), (code, "why", &[][..]), "{kind:?}");
            assert_eq!(serde_json::to_value(kind).unwrap(), word(kind));
        }
    }
}
