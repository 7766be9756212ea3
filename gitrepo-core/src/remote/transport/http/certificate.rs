//! Why a server's certificate was refused, as far as OpenSSL tells, and what to do about it.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// Parts of curl's and OpenSSL's messages (`X509_verify_cert_error_string` of OpenSSL 3), and what they mean.
const MESSAGES: [(&str, CertificateProblem); 11] = [
    ("no alternative certificate subject name matches", CertificateProblem::WrongHost),
    ("does not match target", CertificateProblem::WrongHost),
    ("hostname mismatch", CertificateProblem::WrongHost),
    ("IP address mismatch", CertificateProblem::WrongHost),
    ("unable to get issuer certificate", CertificateProblem::UnknownAuthority),
    ("unable to get local issuer certificate", CertificateProblem::UnknownAuthority),
    ("self-signed certificate", CertificateProblem::UnknownAuthority),
    ("unable to verify the first certificate", CertificateProblem::UnknownAuthority),
    ("certificate not trusted", CertificateProblem::UnknownAuthority),
    ("certificate has expired", CertificateProblem::Expired),
    ("certificate is not yet valid", CertificateProblem::NotYetValid),
];

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
    /// From the message of a certificate that was not accepted.
    pub(super) fn of(message: &str) -> Self {
        let found = MESSAGES.into_iter().find(|(part, _)| message.contains(part));
        found.map_or(Self::Other, |(_, problem)| problem)
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
