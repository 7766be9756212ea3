//! The certificates of a secret: authorities to trust, and a client's own.

use super::CredentialError;
use super::Secret;
use super::pem;
use super::pem::PrivateKey;

/// A client certificate for TLS and its private key. Their form is checked here, and whether they match on connecting.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    certificates: String,
    key: Secret,
}

impl ClientCertificate {
    /// Checks the form of `tls.crt` and `tls.key`, each with its name in the secret.
    pub(super) fn parse(certificate: (&str, &str), key: (&str, &str)) -> Result<Self, CredentialError> {
        let refused = |reason| CredentialError::TlsKey { key: key.0.to_owned(), reason };
        Ok(Self {
            certificates: certificates(certificate)?,
            key: match pem::private_key(key.1) {
                PrivateKey::Pem(mut pem) => Secret::new(std::mem::take(&mut *pem)),
                PrivateKey::Missing => {
                    return Err(refused("has no private key in PEM format (-----BEGIN PRIVATE KEY-----)"));
                }
                PrivateKey::Damaged => return Err(refused("has a private key that is damaged")),
                PrivateKey::Encrypted => {
                    return Err(refused(
                        "has an encrypted private key; write it without a passphrase: openssl pkey -in KEY",
                    ));
                }
            },
        })
    }

    /// The certificate and perhaps those of its issuers, in PEM format.
    pub fn certificates(&self) -> &str {
        &self.certificates
    }

    /// The private key, in PEM format.
    pub fn key(&self) -> &Secret {
        &self.key
    }
}

/// The certificates of a key of the secret, in clean PEM; at least one.
pub(super) fn certificates((name, text): (&str, &str)) -> Result<String, CredentialError> {
    match pem::certificates_anew(text) {
        Ok(pem) if pem.is_empty() => Err(CredentialError::NoCertificate { key: name.to_owned() }),
        Ok(pem) => Ok(pem),
        Err(damaged) => Err(CredentialError::DamagedCertificate { key: name.to_owned(), number: damaged.number }),
    }
}
