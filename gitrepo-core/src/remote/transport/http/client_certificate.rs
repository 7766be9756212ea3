//! The certificate that this client shows to a server.

use openssl::pkey::PKey;
use openssl::x509::X509;

use crate::credentials::ClientCertificate;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::spec::Scheme;

/// The certificate for the errand's host, checked against its key: curl would only say that it cannot use them.
pub(super) fn of(request: &ConnectRequest) -> Result<Option<&ClientCertificate>, RemoteError> {
    let url = &request.errand.url;
    let host = url.host().unwrap_or_default();
    let found = request.errand.credentials.for_host(host, host).client_certificate;
    let Some(certificate) = found.filter(|_| url.scheme() == Scheme::Https) else { return Ok(None) };
    check(certificate).map_err(|source| RemoteError::ClientCertificate { url: url.to_string(), source })?;
    Ok(Some(certificate))
}

/// What a server says that wants a client certificate, and did not get one that it accepts: TLS's alerts as OpenSSL words
/// them, and nginx's page.
const REFUSALS: [&str; 7] = [
    "alert certificate required",
    "alert bad certificate",
    "alert unknown ca",
    "alert certificate unknown",
    "alert certificate expired",
    "alert certificate revoked",
    "SSL certificate",
];

/// The error behind `words` of TLS or of an answer, if they are about a client certificate.
pub(super) fn refusal(url: String, request: &ConnectRequest, words: &str) -> Option<RemoteError> {
    if request.errand.url.scheme() != Scheme::Https || !REFUSALS.iter().any(|refusal| words.contains(refusal)) {
        return None;
    }
    let host = request.errand.url.host().unwrap_or_default();
    Some(match request.errand.credentials.for_host(host, host).client_certificate {
        Some(_) => RemoteError::CredentialRefused { url, offered: "tls.crt".to_owned(), source: None },
        None => RemoteError::CredentialMissing { url, wanted: "tls.crt and tls.key".to_owned() },
    })
}

fn check(certificate: &ClientCertificate) -> Result<(), Cause> {
    let key = certificate.key().expose().as_bytes();
    // Without a callback, OpenSSL would ask on the terminal for the passphrase of an encrypted key.
    let key = PKey::private_key_from_pem_callback(key, |_| Ok(0)).map_err(|_| Cause::new("tls.key is damaged"))?;
    let certificate = X509::from_pem(certificate.certificates().as_bytes());
    let public = certificate.and_then(|certificate| certificate.public_key());
    match public.map_err(|_| Cause::new("tls.crt is damaged"))?.public_eq(&key) {
        true => Ok(()),
        false => Err(Cause::new("tls.key is not the private key of the first certificate in tls.crt")),
    }
}
