//! Prepares libgit2 for a conversation: isolated from the host's settings, with limits, and over our own HTTP. Also
//! reads the trusted authorities.

use std::fs;
use std::path::Path;

use openssl::x509::X509;

use super::host_key;
use super::http;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::sys;

/// Oldest libgit2 that may be linked: 1.9.5 fixes five vulnerabilities, 1.9.7 one more (CVE-2026-5917, which runs
/// commands on the remote host).
const OLDEST: (u32, u32, u32) = (1, 9, 7);

/// Prepares this process for the conversation that `request` describes.
pub(super) fn start_up(request: &ConnectRequest, home: Option<&Path>) -> Result<(), RemoteError> {
    let unusable = |cause: Cause| RemoteError::Library { source: cause };
    if linked() < OLDEST {
        let (major, minor, patch) = linked();
        return Err(unusable(Cause::new(format!("libgit2 {major}.{minor}.{patch} has known vulnerabilities"))));
    }
    sys::git::prepare_network(request.errand.limits.stall, home, http::transport)
        .map_err(|error| unusable(Cause::new(error.message())))?;
    if let Some(home) = home
        && let Err(error) = host_key::prefer_known_types(home, &request.errand.url, &request.errand.host_keys)
    {
        tracing::warn!(%error, "cannot say which SSH host keys are known; the server may present one of another type");
    }
    Ok(())
}

fn linked() -> (u32, u32, u32) {
    git2::Version::get().libgit2_version()
}

/// The authorities of the request, in addition to the system's.
pub(super) fn authorities(request: &ConnectRequest) -> Result<Vec<X509>, RemoteError> {
    let failed = |cause: Cause| RemoteError::Authorities { url: request.errand.url.to_string(), source: cause };
    let mut bundles = Vec::new();
    if let Some(file) = &request.errand.ca_file {
        let bundle =
            fs::read(file).map_err(|error| failed(Cause::new(format!("caFile {}: {error}", file.display()))))?;
        bundles.push(("caFile", bundle));
    }
    let host = request.errand.url.host().unwrap_or_default();
    if let Some(bundle) = request.errand.credentials.for_host(host, host).ca_certificates {
        bundles.push(("secret key ca.crt", bundle.as_bytes().to_vec()));
    }
    let mut authorities = Vec::new();
    for (name, bundle) in bundles {
        let certificates =
            X509::stack_from_pem(&bundle).map_err(|error| failed(Cause::new(format!("{name}: {error}"))))?;
        if certificates.is_empty() {
            return Err(failed(Cause::new(format!("{name} has no certificate in PEM format"))));
        }
        authorities.extend(certificates);
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_libgit2_has_no_known_vulnerability() {
        assert!(linked() >= OLDEST, "{:?}", linked());
        assert!(git2::Version::get().https() && git2::Version::get().ssh());
    }

    #[test]
    fn no_configuration_of_the_host_is_read() {
        sys::git::isolate().unwrap();
        let configuration = git2::Config::open_default().unwrap();
        let mut entries = configuration.entries(None).unwrap();
        assert!(entries.next().is_none());
    }
}
