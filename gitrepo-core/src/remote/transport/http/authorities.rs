//! The certificate authorities that are trusted.

use std::fs;
use std::path::Path;

use openssl::x509::X509;

use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// Trusted certificates. A certificate that is not an authority's, or not a root's, is trusted as it stands: curl accepts
/// a chain that ends at any of them.
pub(super) enum Bundle<'a> {
    /// Those of the system.
    System,
    /// Those of this file.
    File(&'a Path),
    /// These, in PEM format.
    Text(Vec<u8>),
}

/// The certificates of the errand's file or of the system, and those of the secret.
pub(super) fn bundle(request: &ConnectRequest) -> Result<Bundle<'_>, RemoteError> {
    let failed = |cause: Cause| RemoteError::Authorities { url: request.errand.url.to_string(), source: cause };
    let file = request.errand.ca_file.as_deref();
    let host = request.errand.url.host().unwrap_or_default();
    let secret = request.errand.credentials.for_host(host, host).ca_certificates;
    if let Some(file) = file {
        let text = fs::read(file).map_err(|error| failed(Cause::new(format!("caFile {}: {error}", file.display()))))?;
        check("caFile", &text).map_err(failed)?;
    }
    let Some(secret) = secret else { return Ok(file.map_or(Bundle::System, Bundle::File)) };
    let system = openssl_probe::probe().cert_file;
    let mut text = match file.or(system.as_deref()) {
        Some(path) => fs::read(path).unwrap_or_default(),
        None => Vec::new(),
    };
    for certificate in check("secret key ca.crt", secret.as_bytes()).map_err(failed)? {
        text.push(b'\n');
        text.extend(certificate.to_pem().map_err(|error| failed(Cause::new(error)))?);
    }
    Ok(Bundle::Text(text))
}

fn check(name: &str, text: &[u8]) -> Result<Vec<X509>, Cause> {
    let certificates = X509::stack_from_pem(text).map_err(|error| Cause::new(format!("{name}: {error}")))?;
    match certificates.is_empty() {
        true => Err(Cause::new(format!("{name} has no certificate in PEM format"))),
        false => Ok(certificates),
    }
}
