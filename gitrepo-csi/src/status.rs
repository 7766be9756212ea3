//! Maps the kind of a failure to the gRPC code. Nothing else determines the code.

use gitrepo_core::error::Kind;
use tonic::Code;
use tonic::Status;

use crate::failure::CallFailure;

/// [`Code::Cancelled`] as gRPC spells it.
pub const CANCELLED: &str = "CANCELLED";

/// How clients, logs and metrics name a kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// The gRPC code.
    pub code: Code,
    /// The code as gRPC spells it.
    pub code_name: &'static str,
    /// The value of labels and log fields.
    pub word: &'static str,
}

/// Returns the code and words for this kind.
pub fn describe(kind: Kind) -> Described {
    let (code, code_name, word) = match kind {
        Kind::InvalidRequest => (Code::InvalidArgument, "INVALID_ARGUMENT", "invalidRequest"),
        Kind::FailedPrecondition => (Code::FailedPrecondition, "FAILED_PRECONDITION", "failedPrecondition"),
        Kind::AlreadyExists => (Code::AlreadyExists, "ALREADY_EXISTS", "alreadyExists"),
        Kind::NotFound => (Code::NotFound, "NOT_FOUND", "notFound"),
        Kind::Unauthenticated => (Code::Unauthenticated, "UNAUTHENTICATED", "unauthenticated"),
        Kind::PermissionDenied => (Code::PermissionDenied, "PERMISSION_DENIED", "permissionDenied"),
        Kind::Unavailable => (Code::Unavailable, "UNAVAILABLE", "unavailable"),
        Kind::Timeout => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "timeout"),
        Kind::Busy => (Code::Aborted, "ABORTED", "busy"),
        Kind::Cancelled => (Code::Cancelled, CANCELLED, "cancelled"),
        Kind::Unsupported => (Code::FailedPrecondition, "FAILED_PRECONDITION", "unsupported"),
        Kind::BadData => (Code::FailedPrecondition, "FAILED_PRECONDITION", "badData"),
        Kind::ResourceExhausted => (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", "resourceExhausted"),
        Kind::Corrupt => (Code::Internal, "INTERNAL", "corrupt"),
        Kind::Internal => (Code::Internal, "INTERNAL", "internal"),
    };
    Described { code, code_name, word }
}

/// The status has no details, as the kubelet expects.
impl From<CallFailure> for Status {
    fn from(failure: CallFailure) -> Self {
        Self::new(describe(failure.kind).code, failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(Kind, Code, bool); 15] = [
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
        (Kind::BadData, Code::FailedPrecondition, true),
        (Kind::ResourceExhausted, Code::ResourceExhausted, false),
        (Kind::Corrupt, Code::Internal, true),
        (Kind::Internal, Code::Internal, true),
    ];

    #[test]
    fn every_kind_has_the_right_code_word_and_finality() {
        for (kind, code, is_final) in TABLE {
            let failure = CallFailure::new(kind, "why");
            assert_eq!(failure.is_final(), is_final, "{kind:?}");
            let status = Status::from(failure);
            assert_eq!((status.code(), status.message(), status.details()), (code, "why", &[][..]), "{kind:?}");
            let Described { code_name, word, .. } = describe(kind);
            assert!(code_name.replace('_', "").eq_ignore_ascii_case(&format!("{code:?}")), "{code_name}");
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
        }
    }
}
