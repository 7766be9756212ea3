//! The certificate authorities that are trusted.

use std::fs;

use openssl::x509::X509;

use crate::credentials::pem;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// The trusted certificates in PEM format: those of the errand's file or of the system, and those of the secret. `None` for
/// those of the system alone.
///
/// A certificate that is not an authority's, or not a root's, is trusted as it stands: curl accepts a chain that ends at any
/// of them.
pub(super) fn bundle(request: &ConnectRequest) -> Result<Option<Vec<u8>>, RemoteError> {
    let failed = |cause: Cause| RemoteError::Authorities { url: request.errand.url.to_string(), source: cause };
    let host = request.errand.url.host().unwrap_or_default();
    let secret = request.errand.credentials.for_host(host, host).ca_certificates;
    let mut bundle = match &request.errand.ca_file {
        Some(file) => {
            let name = format!("caFile {}", file.display());
            let text = fs::read(file).map_err(|error| failed(Cause::new(format!("{name}: {error}"))))?;
            read(&name, &String::from_utf8_lossy(&text)).map_err(failed)?
        }
        None if secret.is_none() => return Ok(None),
        None => openssl_probe::probe().cert_file.and_then(|file| fs::read(file).ok()).unwrap_or_default(),
    };
    if let Some(secret) = secret {
        bundle.push(b'\n');
        bundle.extend(read("secret key ca.crt", secret).map_err(failed)?);
    }
    Ok(Some(bundle))
}

/// The certificates of a text, written as OpenSSL reads them.
fn read(name: &str, text: &str) -> Result<Vec<u8>, Cause> {
    let damaged = |number: usize| Cause::new(format!("{name}: its certificate {number} is damaged"));
    let certificates = pem::certificates(text).map_err(|error| damaged(error.number))?;
    if certificates.is_empty() {
        return Err(Cause::new(format!("{name} has no certificate in PEM format")));
    }
    let mut bundle = Vec::with_capacity(text.len());
    for (certificate, number) in certificates.iter().zip(1..) {
        let pem = X509::from_der(certificate).and_then(|certificate| certificate.to_pem());
        bundle.extend(pem.map_err(|_| damaged(number))?);
    }
    Ok(bundle)
}
