//! Failures that name a submodule.

use crate::credentials::Credentials;
use crate::credentials::SourceError;
use crate::error::Kind;
use crate::lease::LeaseError;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;
use crate::spec::UrlError;

/// A submodule that cannot be brought. Paths are those in the volume's repository, escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmoduleError {
    /// Its URL is none that can be fetched from.
    #[error("the submodule {path:?} of {superproject} has a URL that is refused; correct its entry in .gitmodules")]
    Url {
        /// Its path.
        path: String,
        /// The repository whose `.gitmodules` has the URL.
        superproject: String,
        /// The reason.
        #[source]
        source: UrlError,
    },
    /// The credentials for it cannot be read.
    #[error("the credentials for the submodule {path:?}, {url}, cannot be used")]
    Credentials {
        /// Its path.
        path: String,
        /// Its repository, without secrets.
        url: String,
        /// The reason.
        #[source]
        source: SourceError,
    },
    /// It cannot be fetched, or may not be read.
    #[error("the submodule {path:?} cannot be brought from {url} at commit {commit}{hint}")]
    Fetch {
        /// Its path.
        path: String,
        /// Its repository, without secrets.
        url: String,
        /// Its commit.
        commit: CommitId,
        /// What to do, after a separator; may be empty.
        hint: String,
        /// The failure.
        #[source]
        source: Box<LeaseError>,
    },
}

impl SubmoduleError {
    /// Creates the error for a submodule that could not be fetched with these credentials.
    pub(super) fn fetch(
        path: String,
        url: &RepositoryUrl,
        commit: CommitId,
        credentials: &Credentials,
        source: LeaseError,
    ) -> Self {
        let hint = match source.kind() {
            Kind::Unauthenticated | Kind::NotFound if credentials.is_empty() => hint(url),
            _ if source.is_unsigned() => UNSIGNED.to_owned(),
            _ => String::new(),
        };
        Self::Fetch { path, url: url.to_string(), commit, hint, source: Box::new(source) }
    }

    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Url { .. } => Kind::BadData,
            Self::Credentials { .. } => Kind::FailedPrecondition,
            Self::Fetch { source, .. } => source.kind(),
        }
    }
}

/// A superproject names commits, and no tags.
const UNSIGNED: &str = "; a submodule is asked for by its commit, so no tag counts: the commit itself must be signed, and a \
    rule for this repository with `on: tag` refuses it always";

/// What gives access to a repository for which the volume has no credential.
fn hint(url: &RepositoryUrl) -> String {
    let Some(host) = url.host() else { return String::new() };
    let keys = match url.scheme() {
        Scheme::Https | Scheme::Http => format!("{host}.username and {host}.password, or {host}.token"),
        Scheme::Ssh => format!("{host}.ssh-privatekey and {host}.known_hosts"),
        Scheme::Git | Scheme::File => return String::new(),
    };
    format!("; the volume has no credential for this host: if the repository is private, add {keys} to its secret")
}
