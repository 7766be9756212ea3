//! The certificate that this client shows to a server.

use std::io;

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
const REFUSALS: [&str; 9] = [
    "alert certificate required",
    "alert bad certificate",
    "alert unsupported certificate",
    "alert unknown ca",
    "alert certificate unknown",
    "alert certificate expired",
    "alert certificate revoked",
    "alert access denied",
    "SSL certificate",
];

/// What it says in TLS 1.2 instead of "certificate required" (RFC 5246, section 7.4.6). A server that has not asked for a
/// certificate means something else by it.
const REFUSAL_AFTER_REQUEST: &str = "alert handshake failure";

/// The system's errors of a connection that the other end has closed.
const HANG_UPS: [io::ErrorKind; 3] =
    [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionAborted];

/// How OpenSSL words the end of a connection that TLS did not announce.
const UNANNOUNCED_END: &str = "unexpected eof";

/// The error behind `words` of TLS or of an answer, if they are about a client certificate. `asked` says whether the
/// server has asked for one.
pub(super) fn refusal(url: String, request: &ConnectRequest, words: &str, asked: bool) -> Option<RemoteError> {
    let is_refusal =
        REFUSALS.iter().any(|refusal| words.contains(refusal)) || (asked && words.contains(REFUSAL_AFTER_REQUEST));
    (is_refusal && request.errand.url.scheme() == Scheme::Https).then(|| refused(url, request, None))
}

/// The error of a server that asks for a certificate and hangs up, twice.
pub(super) fn refusal_in_silence(url: String, request: &ConnectRequest, end: &Cause) -> RemoteError {
    let what = format_args!("the server asked for a client certificate and hung up, twice: {end}");
    refused(url, request, Some(Cause::new(what)))
}

/// How a connection ended, if the server just hung up. `system` is the system's last error, which need not be the cause:
/// curl remembers that of another address of the server, too.
pub(super) fn end(error: &curl::Error, system: Option<&io::Error>) -> Option<Cause> {
    let words = error.extra_description().unwrap_or(error.description());
    let is_of_connection = error.is_send_error() || error.is_recv_error() || error.is_ssl_connect_error();
    let is_hang_up = words.contains(UNANNOUNCED_END) || system.is_some_and(|system| HANG_UPS.contains(&system.kind()));
    let is_end = error.is_got_nothing() || (is_of_connection && is_hang_up);
    (is_end && !words.contains("alert")).then(|| Cause::new(words))
}

fn refused(url: String, request: &ConnectRequest, source: Option<Cause>) -> RemoteError {
    let host = request.errand.url.host().unwrap_or_default();
    match request.errand.credentials.for_host(host, host).client_certificate {
        Some(_) => RemoteError::CredentialRefused { url, offered: "tls.crt".to_owned(), source },
        None => RemoteError::CredentialMissing { url, wanted: "tls.crt and tls.key".to_owned(), source },
    }
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
