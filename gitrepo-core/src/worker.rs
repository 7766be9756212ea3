//! Runs the code that talks to a remote or reads its bytes.
//!
//! A [`Worker`] starts a [`Session`] for one repository. The [`Confined`] worker is one or two children of the same
//! program in namespaces of their own. The [`InProcess`] worker is a thread, for embedders and tests. Both run the same
//! code over the same messages, so they behave the same.
//!
//! ```text
//!  parent: Session ── Confined ─ Relay ══ TCP ═══════════════════════════► the pinned address
//!             │ lines (protocol)  ║
//!  ───────────┼───────────────────╨ listening socket ──────────────── namespaces ──
//!             │                   ║
//!  child:     ├─ monitor ─ fork ─► receiver (pid 1): Remote, inflate, deltas
//!             │                       ║ pipes (pack::stream)
//!  child:     └─ monitor ─ fork ─► verifier (pid 1): hash, keep, check, list
//! ```
//!
//! The receiver has the secrets and the connection. Its network namespace has only a loopback. Its `/etc/hosts` maps the
//! repository's host to 127.0.0.1, where the parent holds the listening socket and relays every connection to the address
//! that the policy checked. So the receiver sees the real name and port, while a redirect or a rebinding name leads
//! nowhere.
//!
//! The verifier has neither. It makes the repository that the parent adopts and the list of the tree, out of the content
//! that the receiver hands over. The receiver claims no id and no place, and can open nothing that is kept for writing. So
//! whoever takes the receiver over can fail its own volume, but cannot put other bytes under a commit. The verifier is
//! started with the first fetch, while the remote is being asked.

use crate::error::Cause;
use crate::error::Kind;
use crate::policy::PinnedHost;
use crate::remote::Errand;
use crate::remote::RemoteError;
use crate::reserve::BelowReserve;
use crate::signature::SignatureError;
use crate::snapshot::SnapshotError;
use crate::watch::Watch;

mod child;
mod confined;
mod errand;
mod in_process;
mod landlock;
mod monitor;
mod namespace;
mod objects;
mod privileges;
mod protocol;
mod relay;
mod seccomp;
mod serve;
mod session;
mod signature;
mod uids;
mod wire;

pub use child::run_if_worker;
pub use child::run_if_worker_with;
pub use confined::Confined;
pub use confined::system_authorities;
pub use in_process::InProcess;
pub use session::Confinement;
pub use session::Session;

/// Starts sessions.
pub trait Worker: Send + Sync {
    /// Prepares a session for one repository. Does not contact the remote yet.
    fn start(&self, job: Job) -> Result<Session, WorkerError>;
}

/// An errand, with the details that only the parent needs.
#[non_exhaustive]
pub struct Job {
    /// The session's errand.
    pub errand: Errand,
    /// The only addresses that may be connected to; `None` for `file` URLs. With a proxy, the proxy's addresses.
    pub host: Option<PinnedHost>,
    /// Bytes that must stay free in the filesystem of `errand.staging`.
    pub reserve_bytes: u64,
    /// Ends the session early, and receives its progress.
    pub watch: Watch,
}

impl Job {
    /// Creates a job without a host and without a reserve.
    pub fn new(errand: Errand, watch: Watch) -> Self {
        Self { errand, host: None, reserve_bytes: 0, watch }
    }
}

/// The snapshot format's output, inside the staging directory.
pub const TREE: &str = "tree";

/// A failure of a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Talking to the remote failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Writing the tree failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The commit lacks the signature that the configuration requires.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The child could not be started or confined.
    #[error("cannot start the worker ({step})")]
    Start {
        /// The step that failed.
        step: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Waiting for the child failed, so parts of it may still run.
    #[error("cannot tell whether the worker for {url} has ended")]
    End {
        /// The URL, without user information.
        url: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// All uids of the range are in use.
    #[error("all {count} workers are busy; the range of worker.uids bounds how many run at once")]
    NoFreeWorker {
        /// Size of the range.
        count: usize,
    },
    /// The child ended without an answer.
    #[error("the worker for {url} ended without an answer ({how})")]
    Died {
        /// The URL, without user information.
        url: String,
        /// Exit status, or signal, or "out of memory".
        how: String,
        /// The kind: a limit was hit, or a bug of ours.
        kind: Kind,
    },
    /// The worker hit a bug of ours.
    #[error("the worker for {url} failed")]
    Fault {
        /// The URL, without user information.
        url: String,
        /// The worker's message.
        #[source]
        source: Cause,
    },
    /// The filesystem of the staging directory is nearly full.
    #[error(transparent)]
    OutOfSpace(#[from] BelowReserve),
    /// The child violated the protocol.
    #[error("the worker for {url} does not keep to the protocol")]
    Protocol {
        /// The URL, without user information.
        url: String,
        /// What was wrong.
        #[source]
        source: Cause,
    },
}

impl WorkerError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Remote(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Signature(error) => error.kind(),
            Self::Start { source, .. } | Self::End { source, .. } => crate::error::io_kind(source),
            Self::NoFreeWorker { .. } => Kind::Busy,
            Self::Died { kind, .. } => *kind,
            Self::OutOfSpace(_) => Kind::ResourceExhausted,
            Self::Fault { .. } | Self::Protocol { .. } => Kind::Internal,
        }
    }
}
