//! Speaking to a git server: where a revision stands, and the pack that holds its commit.
//!
//! The trait is narrow on purpose. libgit2 has no protocol v2 and no partial clone, so another implementation must be
//! able to take over the network side without touching anything else. Whoever fetches writes a standard bare repository;
//! whatever reads trees afterwards does not care who did.
//!
//! The shape follows a connection: resolve and fetch share one, so that the answer of the first is what the second
//! fetches, and a remote across an ocean is dialled once.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::credentials::HostKeyError;
use crate::error::Cause;
use crate::error::Kind;
use crate::progress::Progress;
use crate::spec::CommitId;
use crate::spec::Revision;

mod errand;
mod http;
pub mod libgit2;

pub use errand::Errand;
pub use http::CertificateProblem;
pub use http::Redirection;

/// Name of the bare repository that a fetch leaves in its staging directory.
pub const REPOSITORY: &str = "repository.git";

/// A kind of git server access. The real one is [`libgit2::Libgit2`].
pub trait Remote: Send + Sync {
    /// Connects to the repository of `request` and holds `conversation` over that one connection.
    ///
    /// The connection is made lazily, by the first call that needs it, so errors of connecting are those of
    /// [`Connection::resolve`] and [`Connection::fetch`].
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection));
}

/// One conversation with one repository.
pub trait Connection {
    /// Asks where `revision` stands. A full commit id is not looked up, but the remote is asked for its refs all the
    /// same, which proves that the credential may read the repository.
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError>;

    /// Fetches the history of a resolved revision into the bare repository of the [`ConnectRequest`]. When this returns,
    /// the commit and its whole tree are there, or in its base, and `refs/commits/<id>` says so.
    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError>;

    /// The line for `known_hosts` of an SSH host key that was believed only because nothing was known of the host
    /// ([`crate::credentials::Checking::AcceptNew`]). The caller keeps it, so that the host is held to it from now on.
    fn accepted_host_key(&self) -> Option<String>;
}

/// A session's errand, and how it is watched.
pub struct ConnectRequest {
    /// What the session is for.
    pub errand: Errand,
    /// Ends it early.
    pub cancel: Cancel,
    /// Told while a pack arrives.
    pub progress: Arc<dyn Progress>,
}

/// Where a revision stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The commit; tags are peeled.
    pub commit: CommitId,
    /// The full name of the ref that led to it; `None` when a commit was asked for by its id.
    pub reference: Option<String>,
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// What [`Connection::resolve`] answered.
    pub resolved: Resolved,
    /// Commits of history; 0 for all of it.
    pub depth: u32,
}

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchReport {
    /// The commit that is in the repository now: the one asked for, even if its ref has moved on since it was resolved.
    pub commit: CommitId,
    /// Bytes of the pack received.
    pub received_bytes: u64,
    /// Objects received; 0 when everything was there already.
    pub received_objects: u64,
}

/// A failure to speak to a remote.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemoteError {
    /// The server says that there is no such repository. Many servers say so to whoever may not read it.
    #[error("{url}: the server has no such repository, or hides it from this credential")]
    RepositoryNotFound {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// No such branch, tag or ref.
    #[error("{url} has no branch, tag or ref {revision:?}{}", nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    RevisionNotFound {
        /// Without user information.
        url: String,
        /// As asked for.
        revision: String,
        /// The most similar name that the remote has.
        nearest: Option<String>,
    },
    /// The remote's HEAD points nowhere: an empty repository.
    #[error("{url} is empty: it has no commit on its default branch")]
    EmptyRepository {
        /// Without user information.
        url: String,
    },
    /// The revision is not a commit, nor a tag of one.
    #[error("{revision:?} of {url} is not a commit but a {object}")]
    NotACommit {
        /// Without user information.
        url: String,
        /// As asked for.
        revision: String,
        /// Type of the object.
        object: String,
    },
    /// The commit does not exist, or nothing the server offers leads to it.
    #[error(
        "commit {commit} cannot be had from {url}: the server does not give out commits by id, and none of its branches \
         and tags leads to this one"
    )]
    CommitUnreachable {
        /// Without user information.
        url: String,
        /// As asked for.
        commit: CommitId,
    },
    /// The server gives commits by id, but not this one.
    #[error("{url} does not give out commit {commit}: there is none, or no branch or tag leads to it any more")]
    CommitNotFound {
        /// Without user information.
        url: String,
        /// As asked for.
        commit: CommitId,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// The server wants a credential and there is none for it.
    #[error("{url} wants a credential ({wanted}), and the volume has no secret with one")]
    CredentialMissing {
        /// Without user information.
        url: String,
        /// Secret keys that would answer.
        wanted: String,
    },
    /// The server refused the credential.
    #[error(
        "{url} refused the credential ({offered}); {}",
        match offered.contains("ssh-privatekey") {
            true => "use the key that the server knows, or add its public key there, for example as a deploy key",
            false => "check that it is right, has not expired, and may read the repository",
        }
    )]
    CredentialRefused {
        /// Without user information.
        url: String,
        /// Names of the secret keys that were tried.
        offered: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// The SSH key is damaged, or its passphrase wrong: the server has not seen it.
    #[error("the private key for {url} cannot be used{}", if *encrypted { "; is ssh-passphrase its passphrase?" } else { "" })]
    UnusableKey {
        /// Without user information.
        url: String,
        /// Whether it needs a passphrase.
        encrypted: bool,
        /// What libssh2 said.
        #[source]
        source: Cause,
    },
    /// The server knows us and says no.
    #[error("{url}: the server forbids access")]
    Forbidden {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// A credential would go over plain http.
    #[error(
        "{url} is plain http: a credential over it would be readable on the way; use https, or allow credentialsOverHttp"
    )]
    CredentialOverHttp {
        /// Without user information.
        url: String,
    },
    /// The server redirects, which could lead a credential or a request elsewhere.
    #[error("{url} redirects to {to}")]
    Redirected {
        /// Without user information.
        url: String,
        /// Where.
        to: Redirection,
    },
    /// The SSH host key is unknown, changed or revoked.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The TLS certificate is not trusted, or not for this host.
    #[error("the certificate of {url} {problem}")]
    Certificate {
        /// Without user information.
        url: String,
        /// Why, which decides what to do.
        problem: CertificateProblem,
        /// What TLS said.
        #[source]
        source: Cause,
    },
    /// The certificate authorities to trust cannot be read.
    #[error("the certificate authorities to trust for {url} cannot be used")]
    Authorities {
        /// Without user information.
        url: String,
        /// Which, and why.
        #[source]
        source: Cause,
    },
    /// The network, or the server, does not answer.
    #[error("cannot reach {url}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The server went silent.
    #[error("{url} went silent: no byte for {seconds} s while {phase}")]
    Stalled {
        /// Without user information.
        url: String,
        /// How long it was silent.
        seconds: u64,
        /// What was going on.
        phase: String,
    },
    /// A limit of the configuration.
    #[error("{url} sends more than the {limit} bytes that limits.fetchBytes allows")]
    TooLarge {
        /// Without user information.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// A pack whose index alone would take all memory.
    #[error("{url} sends a pack of more than {limit} objects")]
    TooManyObjects {
        /// Without user information.
        url: String,
        /// Objects.
        limit: u64,
    },
    /// A list of refs, or an object, that does not fit.
    #[error("what {url} sends needs more memory than worker.memory allows")]
    OutOfMemory {
        /// Without user information.
        url: String,
    },
    /// The server speaks no git, or breaks off.
    #[error("{url} does not answer as a git server should")]
    Protocol {
        /// Without user information.
        url: String,
        /// What libgit2 said.
        #[source]
        source: Cause,
    },
    /// Given up.
    #[error("asking {url} was given up")]
    Interrupted {
        /// Without user information.
        url: String,
        /// Why.
        #[source]
        source: Interrupted,
    },
    /// The repository on our disk cannot be written or read.
    #[error("cannot use the local repository {path}")]
    Local {
        /// Which one.
        path: PathBuf,
        /// Full disk or damage.
        full: bool,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The git library cannot be used as it is.
    #[error("cannot use libgit2")]
    Library {
        /// Why.
        #[source]
        source: Cause,
    },
}

impl RemoteError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::RepositoryNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::EmptyRepository { .. }
            | Self::CommitUnreachable { .. }
            | Self::CommitNotFound { .. } => Kind::NotFound,
            Self::NotACommit { .. } => Kind::InvalidRequest,
            Self::CredentialMissing { .. }
            | Self::CredentialRefused { .. }
            | Self::UnusableKey { .. }
            | Self::Certificate { .. }
            | Self::Authorities { .. } => Kind::Unauthenticated,
            Self::Forbidden { .. } | Self::CredentialOverHttp { .. } | Self::Redirected { .. } => {
                Kind::PermissionDenied
            }
            Self::HostKey(error) => error.kind(),
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Protocol { .. } => Kind::Unavailable,
            Self::TooLarge { .. } | Self::TooManyObjects { .. } | Self::OutOfMemory { .. } => Kind::ResourceExhausted,
            Self::Interrupted { source, .. } => source.kind(),
            Self::Local { full: true, .. } => Kind::ResourceExhausted,
            Self::Local { full: false, .. } | Self::Library { .. } => Kind::Internal,
        }
    }
}
