//! The gateway to remotes: policy check, address pinning, admission, and a worker session.
//!
//! Lease, clone and resolve all use the gateway, so nothing bypasses the policy. The gateway also saves each host key
//! that was accepted on first use.

use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::credentials::Credentials;
use crate::credentials::HostKeys;
use crate::credentials::Malformed;
use crate::error::Kind;
use crate::policy::Config;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::progress::Step;
use crate::remote::Errand;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::Scheme;
use crate::watch::Watch;
use crate::worker;
use crate::worker::Confined;
use crate::worker::Job;
use crate::worker::Worker;
use crate::worker::WorkerError;

mod admission;
mod confinement;
mod held_back;
mod session;

use admission::Admission;
use admission::Admitted;
pub use admission::Bounds;
use admission::Purpose;
pub use admission::SessionCount;
use held_back::HeldBack;
pub(crate) use session::Session;

/// Opens sessions for repositories that the policy allows. Clones share one limit on sessions.
#[derive(Clone)]
pub struct Gateway {
    policy: Policy,
    worker: Arc<dyn Worker>,
    admission: Admission,
    held_back: HeldBack,
}

/// A failure to open or use a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The policy refuses the repository, or the host's name cannot be resolved.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The session failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The remote was too slow for this tenant a short time ago.
    #[error("{url} was too slow, and is asked again in {seconds} s; check the network and the server")]
    HeldBack {
        /// Without user information.
        url: String,
        /// How long it is not asked.
        seconds: u64,
    },
    /// The objects of Git LFS that the tree needs cannot be had. What came before is there.
    #[error("cannot bring the Git LFS objects of {url}")]
    Objects {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Box<GatewayError>,
    },
    /// The file of known host keys has no valid line.
    #[error("the file {} has no line in the format of known_hosts", path.display())]
    KnownHostsLine {
        /// The configuration's `hostKeys.file`.
        path: PathBuf,
        /// The first line, and why it is invalid.
        #[source]
        source: Malformed,
    },
    /// The file of known host keys cannot be used.
    #[error("cannot {action} the known host keys in {}", path.display())]
    KnownHosts {
        /// What was tried, as a verb.
        action: &'static str,
        /// The configuration's `hostKeys.file`.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl GatewayError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Policy(error) => error.kind(),
            Self::Worker(error) => error.kind(),
            Self::HeldBack { .. } => Kind::Unavailable,
            Self::Objects { source, .. } => source.kind(),
            Self::KnownHostsLine { .. } => Kind::FailedPrecondition,
            Self::KnownHosts { source, .. } => crate::error::io_kind(source),
        }
    }
}

/// Directories of a session that fetches; one that only resolves has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workspace<'a> {
    /// An empty directory that the caller made.
    pub(crate) staging: &'a Path,
    /// The store's repository of the same URL.
    pub(crate) base: Option<&'a Path>,
    /// Whether the process that speaks to the remote may read `base`.
    pub(crate) shows_base: bool,
}

impl Gateway {
    /// Creates a gateway that runs each session in a confined child process of this program. The number of user ids
    /// limits the sessions. `main` must begin with [`run_if_worker`](crate::worker::run_if_worker).
    pub fn confined(config: Config) -> Self {
        let (worker, bounds) = (Confined::new(&config.worker), Bounds::of(config.worker.uids));
        Self::new(Policy::new(config), Arc::new(worker)).bounded(bounds)
    }

    /// Creates a gateway with this policy and this worker, without a limit on sessions.
    pub fn new(policy: Policy, worker: Arc<dyn Worker>) -> Self {
        Self { policy, worker, admission: Admission::new(Bounds::NONE), held_back: HeldBack::default() }
    }

    /// Limits the number of sessions that run at once. Further ones wait, and report [`Step::Queued`].
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { admission: Admission::new(bounds), ..self }
    }

    /// Returns the number of sessions of this gateway and its clones.
    pub fn sessions(&self) -> SessionCount {
        self.admission.count()
    }

    /// Returns the policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Opens a session. Its first request resolves the remote's name and waits for a place.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Policy`] if the policy refuses the URL.
    pub(crate) fn open(
        &self,
        url: &RepositoryUrl,
        credentials: &Credentials,
        workspace: Option<Workspace<'_>>,
        watch: &Watch,
    ) -> Result<Session<'_>, GatewayError> {
        self.policy.check(url)?;
        let config = self.policy.config();
        let errand = Errand {
            url: url.clone(),
            credentials: credentials.clone(),
            host_keys: self.host_keys(url, credentials)?,
            ca_file: config.ca_file.clone(),
            proxy: self.policy.proxy_access(url)?,
            credentials_over_http: config.credentials_over_http,
            staging: workspace.map(|workspace| workspace.staging.to_owned()),
            base: workspace.and_then(|workspace| workspace.base.map(Path::to_owned)),
            shows_base: workspace.is_some_and(|workspace| workspace.shows_base),
            shows_kept: true,
            limits: self.policy.limits().clone(),
        };
        Ok(Session::open(self, errand, watch))
    }

    /// Opens a session that reads a repository of the store and never speaks to the remote.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Policy`] if the policy refuses the URL.
    pub(crate) fn open_offline(
        &self,
        url: &RepositoryUrl,
        workspace: Workspace<'_>,
        watch: &Watch,
    ) -> Result<Session<'_>, GatewayError> {
        Ok(self.open(url, &Credentials::none(), Some(workspace), watch)?.offline())
    }

    /// Starts a worker on an errand once it is admitted. Its place is free again when the worker is gone and nobody
    /// else has it. An offline one can connect to nothing.
    fn start(
        &self,
        errand: Errand,
        purpose: Purpose,
        is_offline: bool,
        watch: &Watch,
    ) -> Result<(worker::Session, Arc<Admitted>), GatewayError> {
        self.policy.check(&errand.url)?;
        let job = Job {
            host: if is_offline { None } else { self.policy.pin(&errand.url, &watch.cancel)? },
            errand,
            reserve_bytes: self.policy.config().cache.reserve_bytes,
            watch: watch.clone(),
        };
        let host = job.errand.url.host().unwrap_or_default().to_ascii_lowercase();
        let queued = || job.watch.progress.report(&Step::Queued);
        let admitted = self.admission.admit(job.watch.account(), &host, purpose, &job.watch.cancel, queued);
        let interrupted = |source| RemoteError::Interrupted { url: job.errand.url.to_string(), source };
        let admitted = Arc::new(admitted.map_err(interrupted).map_err(WorkerError::from)?);
        Ok((self.worker.start(job)?.holding(Arc::clone(&admitted)), admitted))
    }

    /// Resolves `revision` at the remote. Success proves that the credential may read that commit.
    pub fn resolve(
        &self,
        url: &RepositoryUrl,
        revision: &Revision,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Resolved, GatewayError> {
        let mut session = self.open(url, credentials, None, watch)?;
        let resolved = session.resolve(revision)?;
        session.finish()?;
        Ok(resolved)
    }

    /// Saves the host keys that a session accepted on first use (`hostKeys.checking: accept-new`).
    fn remember_host_keys(&self, session: &worker::Session) -> Result<(), GatewayError> {
        let Some(path) = &self.policy.config().host_keys.file else { return Ok(()) };
        for line in session.accepted_host_keys() {
            add_line(path, line).map_err(|source| GatewayError::KnownHosts {
                action: "add to",
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn host_keys(&self, url: &RepositoryUrl, credentials: &Credentials) -> Result<HostKeys, GatewayError> {
        let config = &self.policy.config().host_keys;
        if url.scheme() != Scheme::Ssh {
            return Ok(HostKeys::new(config.checking));
        }
        let host = url.host().unwrap_or_default();
        let keys = HostKeys::new(config.checking).with_secret(&credentials.for_host(host, host));
        let Some(path) = &config.file else { return Ok(keys) };
        match read_lines(path) {
            Ok(text) => {
                keys.with_file(text).map_err(|source| GatewayError::KnownHostsLine { path: path.clone(), source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(keys),
            Err(source) => Err(GatewayError::KnownHosts { action: "read", path: path.clone(), source }),
        }
    }
}

/// Reads a file that the administrator named. Refuses a pipe, which would block until somebody writes to it.
fn read_lines(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Adds a line to a file that people edit, too. The file, its directory, and its last line break may be missing.
fn add_line(path: &Path, line: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let separator = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{separator}{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cancel::Cancel;
    use crate::testing::FakeRemote;
    use crate::worker::InProcess;

    #[test]
    fn a_pipe_in_place_of_the_known_hosts_file_is_refused_without_waiting() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("known_hosts");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(read_lines(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read_lines(&place.path().join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(place.path().join("plain"), "a\n").unwrap();
        assert_eq!(read_lines(&place.path().join("plain")).unwrap(), "a\n");
    }

    #[test]
    fn a_host_key_gets_a_line_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("missing/known_hosts");
        add_line(&path, "a").unwrap();
        add_line(&path, "b").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        std::fs::write(&path, "edited").unwrap();
        add_line(&path, "c").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "edited\nc\n");
    }

    #[test]
    fn clones_share_the_places_and_a_session_gives_its_own_back() {
        let url = RepositoryUrl::parse("http://127.0.0.1/app.git").unwrap();
        let worker = InProcess::new(Arc::new(FakeRemote::of_one(&url)));
        let gateway = Gateway::new(Policy::new(Config::for_person()), Arc::new(worker)).bounded(Bounds::new(1));
        let clone = gateway.clone();
        let open = || gateway.open(&url, &Credentials::none(), None, &Watch::default()).unwrap();
        let mut first = open();
        assert_eq!(clone.sessions(), SessionCount::default(), "nothing was asked yet");
        first.resolve(&Revision::Head).unwrap();
        assert_eq!(clone.sessions().active, 1);
        let hurried = Watch::until(Cancel::new().within(Duration::ZERO));
        let refused = clone.resolve(&url, &Revision::Head, &Credentials::none(), &hurried).unwrap_err();
        assert_eq!(refused.kind(), Kind::Timeout, "{refused}");
        first.finish().unwrap();
        open().resolve(&Revision::Head).unwrap();
        assert_eq!(gateway.sessions(), SessionCount::default());
    }
}
