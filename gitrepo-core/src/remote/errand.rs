//! The purpose of a session with a remote.

use std::path::PathBuf;

use crate::credentials::Credentials;
use crate::credentials::HostKeys;
use crate::policy::Limits;
use crate::policy::ProxyAccess;
use crate::remote::REPOSITORY;
use crate::spec::RepositoryUrl;

/// Which repository to talk to, with which credentials, where to write, and within which limits.
///
/// It contains secrets, so it can be neither printed nor serialised. Only a session can send it to its worker.
#[derive(Clone)]
#[non_exhaustive]
pub struct Errand {
    /// The repository.
    pub url: RepositoryUrl,
    /// The credentials for its host, and for no other.
    pub credentials: Credentials,
    /// Which SSH host keys are trusted.
    pub host_keys: HostKeys,
    /// Certificate authorities, a PEM bundle on disk; `None` for the system's. The secret's `ca.crt` is in
    /// `credentials` instead.
    pub ca_file: Option<PathBuf>,
    /// The proxy to go through.
    pub proxy: Option<ProxyAccess>,
    /// Whether basic and bearer credentials may go over plain `http`.
    pub credentials_over_http: bool,
    /// An empty directory owned by the session, which writes only there: [`REPOSITORY`] and the tree. Absolute. `None`
    /// when only resolving.
    pub staging: Option<PathBuf>,
    /// An existing bare repository of the same URL, read-only: its objects need not be sent again. A worker with a uid
    /// of its own must be able to read it, so its files are world-readable, below a directory that is not.
    pub base: Option<PathBuf>,
    /// Whether the process that speaks to the remote may read `base`. Otherwise it asks for everything, and `base` only
    /// saves writing twice.
    pub shows_base: bool,
    /// Whether the process that speaks to the remote may read what was received for `staging` before. It must for a fetch.
    pub shows_kept: bool,
    /// Limits. `limits.timeout` applies to the whole session.
    pub limits: Limits,
}

impl Errand {
    /// An errand that resolves revisions of a repository, without a credential.
    pub fn new(url: RepositoryUrl) -> Self {
        Self {
            url,
            credentials: Credentials::none(),
            host_keys: HostKeys::default(),
            ca_file: None,
            proxy: None,
            credentials_over_http: false,
            staging: None,
            base: None,
            shows_base: false,
            shows_kept: true,
            limits: Limits::default(),
        }
    }

    /// The bare repository to fetch into, created on connecting with `base` as its alternate; `None` when only
    /// resolving.
    pub fn repository(&self) -> Option<PathBuf> {
        self.staging.as_ref().map(|staging| staging.join(REPOSITORY))
    }
}
