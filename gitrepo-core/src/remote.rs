//! Talks to a git server: resolves a revision, and fetches the pack with its commit.
//!
//! The trait is deliberately narrow. libgit2 has no protocol v2 and no partial clone, so another implementation must be
//! able to replace the network side without other changes. A fetch writes a standard bare repository, and readers of
//! trees do not care who wrote it.
//!
//! The trait follows a connection: resolve and fetch share one. So the fetch gets exactly what was resolved, and a
//! distant remote is dialled once.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::cancel::Interrupted;
use crate::credentials::HostKeyError;
use crate::error::Cause;
use crate::error::Kind;
use crate::spec::CommitId;
use crate::spec::Revision;
use crate::watch::Watch;

pub(crate) mod advertisement;
mod errand;
mod http;
pub mod libgit2;
pub(crate) mod repository;
pub(crate) mod transfer;

pub use errand::Errand;
pub use http::CertificateProblem;
pub use http::Redirection;

/// Name of the bare repository that a fetch writes to its staging directory.
pub const REPOSITORY: &str = "repository.git";

/// Access to git servers. The real one is [`libgit2::Libgit2`].
pub trait Remote: Send + Sync {
    /// Connects to the repository of `request` and holds `conversation` over that one connection.
    ///
    /// The first call that needs the connection makes it, so [`Connection::resolve`] and [`Connection::fetch`] return
    /// its errors.
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection));
}

/// A conversation with one repository.
pub trait Connection {
    /// Resolves `revision` to a commit. A full commit id is not looked up, but the remote is still asked for its refs,
    /// which proves that the credential may read the repository.
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError>;

    /// Fetches the history of a resolved revision into the bare repository of the [`ConnectRequest`]. Afterwards the
    /// commit and its whole tree are there or in its base, and `refs/commits/<id>` records that.
    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError>;

    /// The `known_hosts` line of an SSH host key that was trusted only because the host was unknown
    /// ([`crate::credentials::Checking::AcceptNew`]). The caller stores it, so that the same key is required from now
    /// on.
    fn accepted_host_key(&self) -> Option<String>;
}

/// What a conversation is for.
#[non_exhaustive]
pub struct ConnectRequest {
    /// The repository, the credentials, the directories and the limits.
    pub errand: Errand,
    /// Ends the conversation early, and is told while a pack arrives.
    pub watch: Watch,
}

impl ConnectRequest {
    /// A conversation on this errand.
    pub fn new(errand: Errand, watch: Watch) -> Self {
        Self { errand, watch }
    }
}

/// The result of resolving a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resolved {
    /// The commit; tags are peeled.
    pub commit: CommitId,
    /// The full name of the ref that led to it; `None` if the commit was requested by its id.
    pub reference: Option<String>,
}

impl Resolved {
    /// A commit, and the full name of the ref that led to it.
    pub fn new(commit: CommitId, reference: Option<String>) -> Self {
        Self { commit, reference }
    }
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FetchRequest {
    /// The result of [`Connection::resolve`].
    pub resolved: Resolved,
    /// Commits of history; 0 for all of it.
    pub depth: u32,
}

impl FetchRequest {
    /// So many commits of the history of a resolved revision; 0 for all of it.
    pub fn new(resolved: Resolved, depth: u32) -> Self {
        Self { resolved, depth }
    }
}

/// The result of a fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchReport {
    /// The commit now in the repository: the requested one, even if its ref has moved since it was resolved.
    pub commit: CommitId,
    /// Bytes of the pack received.
    pub received_bytes: u64,
    /// Objects received; 0 if all were there already.
    pub received_objects: u64,
}

/// A failure to talk to a remote.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RemoteError {
    /// The server reports that there is no such repository. Many servers report this also if access is denied.
    #[error("{url}: the server has no such repository, or hides it from this credential")]
    RepositoryNotFound {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// There is no such branch, tag or ref.
    #[error("{url} has no branch, tag or ref {revision:?}{}", nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    RevisionNotFound {
        /// Without user information.
        url: String,
        /// As requested.
        revision: String,
        /// The most similar name that the remote has.
        nearest: Option<String>,
    },
    /// The remote's HEAD points nowhere: the repository is empty.
    #[error("{url} is empty: it has no commit on its default branch")]
    EmptyRepository {
        /// Without user information.
        url: String,
    },
    /// The revision is neither a commit nor a tag of one.
    #[error("{revision:?} of {url} is not a commit but a {object}")]
    NotACommit {
        /// Without user information.
        url: String,
        /// As requested.
        revision: String,
        /// Type of the object.
        object: String,
    },
    /// The commit does not exist, or no ref of the server leads to it.
    #[error(
        "commit {commit} cannot be had from {url}: the server does not give out commits by id, and none of its branches \
         and tags leads to this one"
    )]
    CommitUnreachable {
        /// Without user information.
        url: String,
        /// As requested.
        commit: CommitId,
    },
    /// The server serves commits by id, but not this one.
    #[error("{url} does not give out commit {commit}: there is none, or no branch or tag leads to it any more")]
    CommitNotFound {
        /// Without user information.
        url: String,
        /// As requested.
        commit: CommitId,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// The server requires a credential, and the secret has none for it.
    #[error("{url} wants a credential ({wanted}), and the volume has no secret with one")]
    CredentialMissing {
        /// Without user information.
        url: String,
        /// Secret keys that it would accept.
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
    /// The SSH key is damaged or its passphrase wrong; it was not sent to the server.
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
    /// The server knows the user but denies access.
    #[error("{url}: the server forbids access")]
    Forbidden {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// A credential would be sent over plain http.
    #[error(
        "{url} is plain http: a credential over it would be readable on the way; use https, or allow credentialsOverHttp"
    )]
    CredentialOverHttp {
        /// Without user information.
        url: String,
    },
    /// The server redirects, which could send a credential or a request elsewhere.
    #[error("{url} redirects to {to}")]
    Redirected {
        /// Without user information.
        url: String,
        /// The target.
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
        /// The problem, which decides the advice.
        problem: CertificateProblem,
        /// What TLS said.
        #[source]
        source: Cause,
    },
    /// The trusted certificate authorities cannot be read.
    #[error("the certificate authorities to trust for {url} cannot be used")]
    Authorities {
        /// Without user information.
        url: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The network or the server does not respond.
    #[error("cannot reach {url}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The server has gone silent.
    #[error("{url} went silent: no byte for {seconds} s while {phase}")]
    Stalled {
        /// Without user information.
        url: String,
        /// How long it was silent.
        seconds: u64,
        /// The current phase.
        phase: String,
    },
    /// The pack exceeds a limit of the configuration.
    #[error("{url} sends more than the {limit} bytes that limits.fetchBytes allows")]
    TooLarge {
        /// Without user information.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The index of the pack alone would use all memory.
    #[error("{url} sends a pack of more than {limit} objects")]
    TooManyObjects {
        /// Without user information.
        url: String,
        /// Objects.
        limit: u64,
    },
    /// A list of refs or an object does not fit in memory.
    #[error("what {url} sends needs more memory than worker.memory allows")]
    OutOfMemory {
        /// Without user information.
        url: String,
    },
    /// The server does not speak git, or aborts.
    #[error("{url} does not answer as a git server should")]
    Protocol {
        /// Without user information.
        url: String,
        /// What libgit2 said.
        #[source]
        source: Cause,
    },
    /// The operation was interrupted.
    #[error("asking {url} was given up")]
    Interrupted {
        /// Without user information.
        url: String,
        /// The cause.
        #[source]
        source: Interrupted,
    },
    /// The local repository cannot be written or read.
    #[error("cannot use the local repository {path}")]
    Local {
        /// The path.
        path: PathBuf,
        /// Whether the disk is full; otherwise it is damaged.
        full: bool,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// This libgit2 cannot be used.
    #[error("cannot use libgit2")]
    Library {
        /// The cause.
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
