//! Talks to a git server: resolves a revision, and fetches the pack with its commit.
//!
//! The trait is deliberately narrow. A fetch writes a standard bare repository, and readers of trees do not care who
//! wrote it.
//!
//! The trait follows a connection: resolve and fetch share one. So the fetch gets exactly what was resolved, and a
//! distant remote is dialled once.

use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Deserialize;
use serde::Serialize;

use crate::lfs::Endpoint;
use crate::pack::Outlet;
use crate::spec::CommitId;
use crate::spec::RelativePath;
use crate::spec::Revision;
use crate::watch::Watch;

pub(crate) mod advertisement;
mod conversation;
mod errand;
mod error;
mod git;
mod local;
mod narrow;
mod objects;
pub(crate) mod repository;
mod transport;

/// The parsers of what a server sends, for `testing`.
#[cfg(feature = "testing")]
pub(crate) mod fuzz {
    pub use super::git::fuzz::*;
    pub use super::transport::fuzz::*;
}

pub use conversation::Git;
pub use errand::Errand;
pub use error::RemoteError;
pub use error::Unsupported;
pub use objects::ObjectsError;
pub use objects::ObjectsFetched;
pub use objects::ObjectsRequest;
pub use objects::Refused;
pub(crate) use repository::Verifier;
pub(crate) use repository::compact;
pub(crate) use repository::content_limit;
pub(crate) use repository::places;
pub use transport::CertificateProblem;
pub use transport::Redirection;

/// Name of the bare repository that a fetch writes to its staging directory.
pub const REPOSITORY: &str = "repository.git";

/// Access to git servers. The real one is [`Git`].
pub trait Remote: Send + Sync {
    /// Connects to the repository of `request` and holds `conversation` over that one connection.
    ///
    /// The first call that needs the connection makes it, so [`Connection::resolve`] and [`Connection::fetch`] return
    /// its errors.
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection));
}

/// A conversation with one repository.
pub trait Connection {
    /// Resolves `revision` to a commit; [proves](Self::prove) one that is given by its id.
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError>;

    /// Asks for a commit by its id, with nothing of ours on offer. That the remote gives it out proves that the credential
    /// may read it. Returns the content of the commit object: whoever trusts neither the remote nor the process that asks
    /// it can tell by that.
    ///
    /// # Errors
    ///
    /// [`RemoteError::CommitNotProven`] if the remote gives out no commit by its id, and no ref stands there. Then a fetch
    /// without a base ([`Errand::base`]) is the proof, if it [proves](FetchRequest::proves).
    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError>;

    /// Asks for an annotated tag by its id, as [`Resolved::tag`] names it. Returns its content.
    fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError>;

    /// Fetches the history of a resolved revision. Unless another process verifies its objects, they go into the bare
    /// repository of the errand: afterwards the commit and its whole tree are there or in its base, and
    /// `refs/commits/<id>` records that. After a [narrow](FetchReport::narrow) fetch, one directory is, and nothing does.
    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError>;

    /// Asks a remote over SSH which server has its objects of Git LFS (`git-lfs-authenticate`).
    ///
    /// # Errors
    ///
    /// [`RemoteError::Objects`] if it does not say so, or is not reached over SSH.
    fn objects_endpoint(&mut self) -> Result<Endpoint, RemoteError> {
        Err(objects::without_server())
    }

    /// Fetches objects of Git LFS from the origin of the errand's URL. They are kept like the blobs of a fetch. Those that are at
    /// other origins are not fetched: the answer says where they are.
    ///
    /// # Errors
    ///
    /// After a failure, the objects that came before are kept.
    fn fetch_objects(&mut self, _request: ObjectsRequest) -> Result<ObjectsFetched, RemoteError> {
        Err(objects::without_server())
    }

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
    /// Where the objects of fetches go, if another process verifies them.
    outlet: Mutex<Option<Outlet>>,
}

impl ConnectRequest {
    /// A conversation on this errand.
    pub fn new(errand: Errand, watch: Watch) -> Self {
        Self { errand, watch, outlet: Mutex::new(None) }
    }

    /// Hands the objects of fetches over to another process.
    #[must_use]
    pub(crate) fn handing_over(self, outlet: Outlet) -> Self {
        Self { outlet: Mutex::new(Some(outlet)), ..self }
    }

    /// Where the objects of fetches go. For one conversation.
    pub(crate) fn take_outlet(&self) -> Option<Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner).take()
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
    /// The annotated tag that the ref names, if it does. The commit is what that leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<CommitId>,
}

impl Resolved {
    /// A commit, and the full name of the ref that led to it.
    pub fn new(commit: CommitId, reference: Option<String>) -> Self {
        Self { commit, reference, tag: None }
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
    /// Whether the remote must give out the commit itself, because nothing has proven yet that the credential may read it.
    /// Then the commit object is handed over, even if it is there already.
    pub proves: bool,
    /// Those commits here that the remote may be told of; `None` for all of them. It could claim to have others, too.
    pub offers: Option<Vec<CommitId>>,
    /// The only directory of the commit that is needed; `None` for the whole commit. A remote that cannot leave out the
    /// rest brings all of it, or [refuses](Self::refuses_whole).
    pub narrow: Option<RelativePath>,
    /// Whether to fail with [`RemoteError::NotNarrow`] where all of the commit would be brought instead of the directory.
    pub refuses_whole: bool,
}

impl FetchRequest {
    /// So many commits of the history of a resolved revision; 0 for all of it.
    pub fn new(resolved: Resolved, depth: u32) -> Self {
        Self { resolved, depth, proves: false, offers: None, narrow: None, refuses_whole: false }
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
    /// Whether no more than a [directory](FetchRequest::narrow) of the commit is there now.
    pub narrow: bool,
}
