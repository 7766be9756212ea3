//! The parent's side of a session: sends requests, waits for replies, watches the worker and ends it.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Job;
use super::WorkerError;
use super::protocol::Reply;
use super::protocol::Request;
use super::protocol::RequestError;
use crate::cancel::Cancel;
use crate::credentials::HostKeys;
use crate::error::Cause;
use crate::pack;
use crate::progress::Progress;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::reserve::MakeRoom;
use crate::reserve::Reserve;
use crate::signature::SentTag;
use crate::signature::SignatureRequest;
use crate::signature::Signer;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::Scheme;

mod objects;

/// Answers the requests of a session.
pub(super) trait Peer: Send {
    /// Sends a request.
    fn ask(&mut self, request: Request) -> Result<(), WorkerError>;

    /// Waits for the next reply, for up to `patience`.
    fn answer(&mut self, patience: Duration) -> Result<Option<Reply>, WorkerError>;

    /// Returns a network failure, if the peer knows more about it than the worker.
    fn network_failure(&mut self, phase: Phase) -> Option<RemoteError>;

    /// Ends the worker, whatever it is doing, and returns once nothing of it is left. Ending it twice is not an error.
    fn end(&mut self) -> io::Result<()>;
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Resolving,
    Fetching,
    Writing,
}

/// What confines a worker beside its limits and its system-call filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Whether it has namespaces of its own, and sees only its own files.
    pub namespaces: bool,
    /// How much of the Landlock rules the kernel enforces: `full`, `partial` or `none`.
    pub landlock: String,
}

/// A conversation with a worker about one repository.
///
/// Requests are sent one at a time, in any order. Dropping a session ends its worker, whatever it is doing. An error of
/// the worker itself also ends it, and every later request fails.
pub struct Session {
    peer: Box<dyn Peer>,
    url: RepositoryUrl,
    cancel: Cancel,
    progress: Arc<dyn Progress>,
    disk: Option<Reserve>,
    host_keys: HostKeys,
    accepted_host_keys: Vec<String>,
    held: Vec<Box<dyn Any + Send>>,
    confinement: Option<Confinement>,
}

impl Session {
    /// How long to wait for a reply between two checks.
    const TICK: Duration = Duration::from_millis(50);

    /// Maximum number of new host keys that one session may report.
    const HOST_KEYS: usize = 8;

    pub(super) fn new(peer: Box<dyn Peer>, job: &Job, cancel: Cancel) -> Self {
        let disk = job.errand.staging.clone().map(|path| Reserve::new(path, job.reserve_bytes));
        Self {
            peer,
            url: job.errand.url.clone(),
            cancel,
            progress: Arc::clone(&job.watch.progress),
            disk,
            host_keys: job.errand.host_keys.clone(),
            accepted_host_keys: Vec::new(),
            held: Vec::new(),
            confinement: None,
        }
    }

    /// Notes what confines the worker.
    #[must_use]
    pub(super) fn confined_by(mut self, confinement: Confinement) -> Self {
        self.confinement = Some(confinement);
        self
    }

    /// Returns what confines the worker; `None` if it runs in this process.
    pub fn confinement(&self) -> Option<&Confinement> {
        self.confinement.as_ref()
    }

    /// Keeps `held` until nothing of the worker is left.
    #[must_use]
    pub(crate) fn holding(mut self, held: impl Any + Send) -> Self {
        self.held.push(Box::new(held));
        self
    }

    /// Asks `room` to make room before a fetch fails for lack of space.
    #[must_use]
    pub fn making_room(mut self, room: Arc<dyn MakeRoom>) -> Self {
        self.disk = self.disk.take().map(|disk| disk.making_room(room));
        self
    }

    /// Asks the remote to resolve `revision`, or to give out the commit whose id it is. See
    /// [`Connection::resolve`](crate::remote::Connection::resolve).
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself.
    pub fn resolve(&mut self, revision: &Revision) -> Result<Resolved, WorkerError> {
        if let Revision::Commit(commit) = *revision {
            return self.prove(commit);
        }
        match self.exchange(Request::Resolve(revision.clone()), Phase::Resolving)? {
            // Only a ref leads to a commit that was not named by its id.
            Reply::Resolved(resolved) if resolved.reference.is_some() => Ok(resolved),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Takes the commit object as the proof that the remote gave it out, and no worker's word.
    fn prove(&mut self, commit: CommitId) -> Result<Resolved, WorkerError> {
        self.commit(commit).map(|_| Resolved::new(commit, None))
    }

    /// Has the remote give out a commit, and returns its content.
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself.
    pub(crate) fn commit(&mut self, commit: CommitId) -> Result<Vec<u8>, WorkerError> {
        match self.exchange(Request::Prove(commit), Phase::Resolving)? {
            Reply::Proven(content) if pack::is_commit(commit, &content) => Ok(content),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Has the remote give out the annotated tag that led to a commit.
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself.
    pub(crate) fn tag(&mut self, id: CommitId, reference: &str) -> Result<SentTag, WorkerError> {
        match self.exchange(Request::Tag(id), Phase::Resolving)? {
            Reply::Tag(content) => Ok(SentTag { id, reference: reference.to_owned(), content }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Checks the signature of a commit, without the remote: the request brings it, or it is where
    /// [`write_tree`](Self::write_tree) finds it.
    ///
    /// # Errors
    ///
    /// [`SignatureError`](crate::signature::SignatureError), and errors of the worker itself.
    pub(crate) fn check_signature(&mut self, request: SignatureRequest) -> Result<Signer, WorkerError> {
        match self.exchange(Request::CheckSignature(Box::new(request)), Phase::Writing)? {
            Reply::Signed(signer) => Ok(signer),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Fetches a resolved revision into [`REPOSITORY`](crate::remote::REPOSITORY) of the staging directory. See
    /// [`Connection::fetch`](crate::remote::Connection::fetch).
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself.
    pub fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, WorkerError> {
        match self.exchange(Request::Fetch(request.clone()), Phase::Fetching)? {
            // The caller stores everything that follows under this commit.
            Reply::Fetched(report) if report.commit == request.resolved.commit => Ok(report),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes the tree to [`TREE`](super::TREE) in the staging directory, from the fetched objects, or from the job's
    /// `base` if nothing was fetched.
    ///
    /// # Errors
    ///
    /// Errors of the snapshot format, and of the worker itself.
    pub fn write_tree(&mut self, request: &TreeRequest) -> Result<TreeSummary, WorkerError> {
        match self.exchange(Request::WriteTree(request.clone()), Phase::Writing)? {
            Reply::Written(summary) => Ok(summary),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Makes a compact copy of the job's `base` in [`REPOSITORY`](crate::remote::REPOSITORY) of the staging directory.
    /// Returns its newest commit; `None` if no commit is there whole.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Local`], and errors of the worker itself.
    pub fn compact(&mut self) -> Result<Option<CommitId>, WorkerError> {
        match self.exchange(Request::Compact, Phase::Writing)? {
            Reply::Compacted(commit) => Ok(commit),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Returns the `known_hosts` lines of unknown hosts that were trusted, for the caller to store.
    pub fn accepted_host_keys(&self) -> &[String] {
        &self.accepted_host_keys
    }

    /// Ends the worker and returns once nothing of it is left, so that its output can be checked and adopted.
    ///
    /// # Errors
    ///
    /// [`WorkerError::End`]; then the staging directory must not be used.
    pub fn finish(mut self) -> Result<(), WorkerError> {
        self.peer.end().map_err(|source| WorkerError::End { url: self.url.to_string(), source })
    }

    /// Sends a request and waits for the answer. Any failure other than a reported one ends the worker.
    fn exchange(&mut self, request: Request, phase: Phase) -> Result<Reply, WorkerError> {
        let start = Instant::now();
        let reply = self.converse(request, phase);
        tracing::debug!(url = %self.url, ?phase, milliseconds = start.elapsed().as_millis(), "the worker answered");
        match reply {
            Ok(Reply::Failed(failure)) => Err(self.failure(failure, phase)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    fn converse(&mut self, request: Request, phase: Phase) -> Result<Reply, WorkerError> {
        self.watch(phase)?;
        self.peer.ask(request)?;
        loop {
            match self.peer.answer(Self::TICK)? {
                Some(Reply::Progress(step)) => self.progress.report(&step),
                Some(Reply::AcceptedHostKey { line }) => self.accept(line)?,
                Some(reply) => return Ok(reply),
                None => {}
            }
            self.watch(phase)?;
        }
    }

    /// Keeps a host key that the worker reports. Every later session trusts a stored key, so it must be for this
    /// session's host, and new. A host has few keys.
    fn accept(&mut self, line: String) -> Result<(), WorkerError> {
        let nonsense = |what| Err(WorkerError::Protocol { url: self.url.to_string(), source: Cause::new(what) });
        let (Scheme::Ssh, Some(host), Some(port)) = (self.url.scheme(), self.url.host(), self.url.port()) else {
            return nonsense("a host key, although the URL has no SSH host");
        };
        if !self.host_keys.is_new(host, port, &line) {
            return nonsense("a host key that is not this host's, or not new");
        }
        if self.accepted_host_keys.len() == Self::HOST_KEYS {
            return nonsense("too many host keys");
        }
        self.accepted_host_keys.push(line);
        Ok(())
    }

    /// Checks cancellation, the network and the disk. The worker cannot see them, or cannot be trusted to report them.
    fn watch(&mut self, phase: Phase) -> Result<(), WorkerError> {
        self.cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url.to_string(), source })?;
        if let Some(error) = self.peer.network_failure(phase) {
            return Err(error.into());
        }
        // Resolving alone writes nothing, and most requests are hits in the store.
        match &mut self.disk {
            Some(disk) if matches!(phase, Phase::Fetching | Phase::Writing) => Ok(disk.check()?),
            _ => Ok(()),
        }
    }

    /// Returns the error for a failed request. The relay knows why a connection failed; the worker only saw it end.
    fn failure(&mut self, failure: RequestError, phase: Phase) -> WorkerError {
        match failure {
            RequestError::Remote(error) => self.peer.network_failure(phase).unwrap_or(error).into(),
            RequestError::Snapshot(error) => error.into(),
            RequestError::Signature(error) => error.into(),
            RequestError::Internal(source) => WorkerError::Fault { url: self.url.to_string(), source },
        }
    }

    fn unexpected(&mut self, reply: &Reply) -> WorkerError {
        self.end();
        WorkerError::Protocol {
            url: self.url.to_string(),
            source: Cause::new(format_args!("unexpected reply {reply:?}")),
        }
    }

    fn end(&mut self) {
        if let Err(error) = self.peer.end() {
            tracing::warn!(url = %self.url, %error, "cannot wait for the worker's end");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::credentials::Checking;

    use crate::remote::Errand;
    use crate::spec::CommitId;
    use crate::watch::Watch;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    /// Gives one reply to any request, and then fails.
    struct Claiming(Option<Reply>);

    impl Peer for Claiming {
        fn ask(&mut self, _request: Request) -> Result<(), WorkerError> {
            Ok(())
        }

        fn answer(&mut self, _patience: Duration) -> Result<Option<Reply>, WorkerError> {
            let internal = || Reply::Failed(RequestError::Internal(Cause::new("no more")));
            Ok(Some(self.0.take().unwrap_or_else(internal)))
        }

        fn network_failure(&mut self, _phase: Phase) -> Option<RemoteError> {
            None
        }

        fn end(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn job(url: &str, checking: Checking) -> Job {
        let errand = Errand { host_keys: HostKeys::new(checking), ..Errand::new(RepositoryUrl::parse(url).unwrap()) };
        Job::new(errand, Watch::default())
    }

    /// Returns the lines kept from a worker's claim, and the error.
    fn claim(url: &str, checking: Checking, line: String) -> (Vec<String>, WorkerError) {
        let job = job(url, checking);
        let mut session = Session::new(Box::new(Claiming(Some(Reply::AcceptedHostKey { line }))), &job, Cancel::new());
        let error = session.resolve(&Revision::Head).unwrap_err();
        (session.accepted_host_keys().to_vec(), error)
    }

    #[test]
    fn a_fetch_that_reports_another_commit_is_refused() {
        let [requested, other] = [1, 2].map(|byte| CommitId::from_bytes([byte; 20]));
        let resolved = Resolved::new(requested, None);
        let request = FetchRequest::new(resolved, 1);
        for reported in [requested, other] {
            let reply =
                Reply::Fetched(FetchReport { commit: reported, received_bytes: 0, received_objects: 0, narrow: false });
            let job = job("https://git.example.com/a.git", Checking::Strict);
            let mut session = Session::new(Box::new(Claiming(Some(reply))), &job, Cancel::new());
            match session.fetch(&request) {
                Ok(report) => assert_eq!((reported, report.commit), (requested, requested)),
                Err(error) => assert!(reported == other && matches!(error, WorkerError::Protocol { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn s23_only_a_ref_leads_to_a_commit_and_only_its_content_proves_one() {
        let object = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
        let id = git2::Oid::hash_object(git2::ObjectType::Commit, object).unwrap();
        let [requested, other] = [id.as_bytes(), &[2; 20]].map(|id| CommitId::from_bytes(id.try_into().unwrap()));
        let reference = Some("refs/heads/main".to_owned());
        for (revision, reply, expected) in [
            (Revision::Commit(requested), Reply::Proven(object.to_vec()), true),
            (Revision::Commit(other), Reply::Proven(object.to_vec()), false),
            (Revision::Commit(requested), Reply::Proven(Vec::new()), false),
            (Revision::Commit(requested), Reply::Resolved(Resolved::new(requested, None)), false),
            (Revision::Commit(requested), Reply::Resolved(Resolved::new(requested, reference.clone())), false),
            (Revision::Head, Reply::Resolved(Resolved::new(other, reference)), true),
            (Revision::Head, Reply::Resolved(Resolved::new(other, None)), false),
            (Revision::Head, Reply::Proven(object.to_vec()), false),
        ] {
            let job = job("https://git.example.com/a.git", Checking::Strict);
            let mut session = Session::new(Box::new(Claiming(Some(reply))), &job, Cancel::new());
            assert_eq!(session.resolve(&revision).is_ok(), expected, "{revision}");
        }
    }

    #[test]
    fn only_a_host_key_of_the_sessions_host_is_kept() {
        let line = |hosts: &str| format!("{hosts} {KEY}");
        let (kept, error) = claim("git@host:x", Checking::AcceptNew, line("host"));
        assert_eq!(kept, [line("host")]);
        assert!(matches!(error, WorkerError::Fault { .. }), "{error}");
        for (url, checking, hosts) in [
            ("git@host:x", Checking::AcceptNew, "*"),
            ("git@host:x", Checking::AcceptNew, "github.com"),
            ("git@host:x", Checking::Strict, "host"),
            ("https://host/x", Checking::AcceptNew, "[host]:443"),
        ] {
            let (kept, error) = claim(url, checking, line(hosts));
            assert!(kept.is_empty(), "{kept:?}");
            assert!(matches!(error, WorkerError::Protocol { .. }), "{error}");
        }
    }
    /// Records when its worker has ended.
    struct Ending(Arc<AtomicBool>);

    impl Peer for Ending {
        fn ask(&mut self, _request: Request) -> Result<(), WorkerError> {
            Ok(())
        }

        fn answer(&mut self, _patience: Duration) -> Result<Option<Reply>, WorkerError> {
            Ok(None)
        }

        fn network_failure(&mut self, _phase: Phase) -> Option<RemoteError> {
            None
        }

        fn end(&mut self) -> io::Result<()> {
            self.0.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Fails if it is dropped before the worker has ended.
    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            assert!(self.0.load(Ordering::Relaxed), "dropped before the worker had ended");
        }
    }

    #[test]
    fn a_session_drops_what_it_holds_after_its_worker_has_ended() {
        for finish in [true, false] {
            let ended = Arc::new(AtomicBool::new(false));
            let peer = Ending(Arc::clone(&ended));
            let session = Session::new(Box::new(peer), &job("git@host:x", Checking::Strict), Cancel::new())
                .holding(Held(Arc::clone(&ended)));
            assert_eq!(Arc::strong_count(&ended), 3);
            if finish {
                session.finish().unwrap()
            } else {
                drop(session)
            }
            assert_eq!(Arc::strong_count(&ended), 1);
        }
    }
}
