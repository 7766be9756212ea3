//! Why a server's certificate was refused, as far as OpenSSL tells, and what to do about it.

use std::fmt;

use openssl::x509::X509VerifyResult;
use serde::Deserialize;
use serde::Serialize;

// OpenSSL's verification results: `X509_V_…` of its `x509_vfy.h`, part of its stable interface. The crate has no names
// for them.
const X509_V_OK: i32 = 0;
const NO_ISSUER: i32 = 2;
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
const SELF_SIGNED: i32 = 18;
const SELF_SIGNED_IN_CHAIN: i32 = 19;
const NO_LOCAL_ISSUER: i32 = 20;
const NO_LEAF_SIGNATURE: i32 = 21;
const UNTRUSTED: i32 = 27;
const HOSTNAME_MISMATCH: i32 = 62;
const IP_ADDRESS_MISMATCH: i32 = 64;

/// Why a server's certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateProblem {
    /// It is for other names or addresses.
    WrongHost,
    /// No trusted authority has signed it.
    UnknownAuthority,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// Anything else.
    Other,
}

impl CertificateProblem {
    /// From the result of OpenSSL's verification; `None` if it found nothing wrong.
    pub(super) fn of(result: X509VerifyResult) -> Option<Self> {
        match result.as_raw() {
            X509_V_OK => None,
            HOSTNAME_MISMATCH | IP_ADDRESS_MISMATCH => Some(Self::WrongHost),
            NO_ISSUER | SELF_SIGNED | SELF_SIGNED_IN_CHAIN | NO_LOCAL_ISSUER | NO_LEAF_SIGNATURE | UNTRUSTED => {
                Some(Self::UnknownAuthority)
            }
            HAS_EXPIRED => Some(Self::Expired),
            NOT_YET_VALID => Some(Self::NotYetValid),
            _ => Some(Self::Other),
        }
    }
}

impl fmt::Display for CertificateProblem {
    /// Follows "the certificate of …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongHost => {
                "is for another host; write the URL with a host name of the certificate, or have the server show a \
                 certificate for this one"
            }
            Self::UnknownAuthority => {
                "is signed by no trusted authority; a private authority's certificate belongs into the secret key ca.crt, \
                 or into caFile"
            }
            Self::Expired => "has expired; it must be renewed on the server, unless the clock of this node is wrong",
            Self::NotYetValid => "is not valid yet; is the clock of this node, or of its authority, wrong?",
            Self::Other => "is refused",
        })
    }
}
