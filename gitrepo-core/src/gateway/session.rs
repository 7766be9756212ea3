//! A session with the remote of one repository, wherever on its host the repository is.

use std::sync::Arc;
use std::time::Instant;

use super::Admitted;
use super::Gateway;
use super::GatewayError;
use super::Purpose;
use super::held_back::Key;
use crate::credentials::Credentials;
use crate::remote::Errand;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::Redirection;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::reserve::MakeRoom;
use crate::signature::SentTag;
use crate::signature::SignatureRequest;
use crate::signature::Signer;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::Scheme;
use crate::watch::Watch;
use crate::worker;
use crate::worker::WorkerError;

mod objects;

/// Most redirects to another origin that are followed.
const MOST_REDIRECTS: usize = 5;

/// A conversation with the remote of one repository. Dropping it ends its worker.
///
/// The first request starts the worker. A session that asks and then fetches keeps its worker and its place if a fetch
/// has room; otherwise it gives both back, and waits for a place to fetch.
///
/// The worker can reach one origin: scheme, host and port. So where a server redirects to another origin of the same
/// host, such as from `http` to `https`, a new worker goes there, if the policy allows that URL. It gets no
/// credentials, since they were given for the first origin, but trusts the same authorities.
pub(crate) struct Session<'a> {
    gateway: &'a Gateway,
    errand: Errand,
    watch: Watch,
    room: Option<Arc<dyn MakeRoom>>,
    redirects: usize,
    /// Whether its worker must not reach the remote.
    is_offline: bool,
    /// The first URL, if credentials were left there.
    left_behind: Option<RepositoryUrl>,
    /// Who is held back if the remote is too slow.
    key: Key,
    /// `None` before the first request, and between two workers.
    running: Option<Running>,
}

/// A worker and its place.
struct Running {
    worker: worker::Session,
    place: Arc<Admitted>,
}

impl<'a> Session<'a> {
    pub(super) fn open(gateway: &'a Gateway, errand: Errand, watch: &Watch) -> Self {
        // For all its workers together.
        let cancel = watch.cancel.within(gateway.policy().limits().timeout);
        let watch = Watch { cancel, ..watch.clone() };
        let key = (watch.account().to_owned(), errand.url.canonical());
        Self {
            gateway,
            errand,
            watch,
            room: None,
            redirects: 0,
            is_offline: false,
            left_behind: None,
            key,
            running: None,
        }
    }

    /// Asks `room` for space before it fails a fetch for lack of it.
    #[must_use]
    pub(crate) fn making_room(mut self, room: Arc<dyn MakeRoom>) -> Self {
        self.room = Some(room);
        self
    }

    /// Keeps its worker from the remote, and does not look its name up.
    #[must_use]
    pub(super) fn offline(self) -> Self {
        Self { is_offline: true, ..self }
    }

    /// See [`worker::Session::commit`].
    ///
    /// # Errors
    ///
    /// Those of the worker, and [`GatewayError::KnownHosts`].
    pub(crate) fn commit(&mut self, commit: CommitId) -> Result<Vec<u8>, GatewayError> {
        self.ask(Purpose::Ask, |worker| worker.commit(commit))
    }

    /// See [`worker::Session::tag`].
    ///
    /// # Errors
    ///
    /// Those of the worker, and [`GatewayError::KnownHosts`].
    pub(crate) fn tag(&mut self, tag: CommitId, reference: &str) -> Result<SentTag, GatewayError> {
        self.ask(Purpose::Ask, |worker| worker.tag(tag, reference))
    }

    /// See [`worker::Session::check_signature`].
    ///
    /// # Errors
    ///
    /// Those of the worker.
    pub(crate) fn check_signature(&mut self, request: SignatureRequest) -> Result<Signer, GatewayError> {
        Ok(self.worker(Purpose::Ask)?.check_signature(request)?)
    }

    /// See [`worker::Session::resolve`].
    ///
    /// # Errors
    ///
    /// Those of the worker, and [`GatewayError::KnownHosts`].
    pub(crate) fn resolve(&mut self, revision: &Revision) -> Result<Resolved, GatewayError> {
        self.ask(Purpose::Ask, |worker| worker.resolve(revision))
    }

    /// See [`worker::Session::fetch`].
    ///
    /// # Errors
    ///
    /// Those of the worker, and [`GatewayError::KnownHosts`].
    pub(crate) fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, GatewayError> {
        let fetched = self.ask(Purpose::Fetch, |worker| worker.fetch(request))?;
        self.gateway.held_back.fetched(&self.key);
        Ok(fetched)
    }

    /// See [`worker::Session::write_tree`].
    ///
    /// # Errors
    ///
    /// Those of the worker.
    pub(crate) fn write_tree(&mut self, request: &TreeRequest) -> Result<TreeSummary, GatewayError> {
        Ok(self.worker(Purpose::Fetch)?.write_tree(request)?)
    }

    /// See [`worker::Session::compact`].
    ///
    /// # Errors
    ///
    /// Those of the worker.
    pub(crate) fn compact(&mut self) -> Result<Option<CommitId>, GatewayError> {
        Ok(self.worker(Purpose::Fetch)?.compact()?)
    }

    /// See [`worker::Session::finish`].
    ///
    /// # Errors
    ///
    /// [`WorkerError::End`]; then the staging directory must not be used.
    pub(crate) fn finish(mut self) -> Result<(), GatewayError> {
        self.end_worker()
    }

    fn end_worker(&mut self) -> Result<(), GatewayError> {
        Ok(self.running.take().map_or(Ok(()), |running| running.worker.finish())?)
    }

    /// Returns the worker, with a place for this purpose.
    fn worker(&mut self, purpose: Purpose) -> Result<&mut worker::Session, GatewayError> {
        if purpose == Purpose::Fetch && self.running.as_ref().is_some_and(|running| !running.place.promote()) {
            self.end_worker()?;
        }
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start(purpose)?,
        };
        Ok(&mut self.running.insert(running).worker)
    }

    fn start(&self, purpose: Purpose) -> Result<Running, GatewayError> {
        if !self.is_offline
            && let Some(left) = self.gateway.held_back.remaining(&self.key, Instant::now())
        {
            return Err(GatewayError::HeldBack { url: self.errand.url.to_string(), seconds: left.as_secs() + 1 });
        }
        let (worker, place) = self.gateway.start(self.errand.clone(), purpose, self.is_offline, &self.watch)?;
        let worker = match &self.room {
            Some(room) => worker.making_room(Arc::clone(room)),
            None => worker,
        };
        Ok(Running { worker, place })
    }

    /// Asks the remote, and follows it to another origin.
    fn ask<T>(
        &mut self,
        purpose: Purpose,
        question: impl Fn(&mut worker::Session) -> Result<T, WorkerError>,
    ) -> Result<T, GatewayError> {
        loop {
            let gateway = self.gateway;
            let worker = self.worker(purpose)?;
            let error = match question(worker) {
                Ok(answer) => {
                    gateway.remember_host_keys(worker)?;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match &error {
                WorkerError::Remote(RemoteError::TooSlow { .. }) => {
                    gateway.held_back.slow(&self.key, Instant::now());
                    return Err(error.into());
                }
                WorkerError::Remote(RemoteError::Redirected {
                    to: Redirection::Repository { write, follow: true },
                    ..
                }) if self.redirects < MOST_REDIRECTS => match RepositoryUrl::parse(write) {
                    Ok(there) if may_follow(&self.errand.url, &there) => {
                        self.redirects += 1;
                        self.go_to(there)?;
                    }
                    _ => return Err(error.into()),
                },
                WorkerError::Remote(RemoteError::CredentialMissing { .. }) => {
                    return Err(match &self.left_behind {
                        // The volume has a credential, but for the URL that it names.
                        Some(first) => {
                            let to = Redirection::Repository { write: self.errand.url.to_string(), follow: false };
                            WorkerError::from(RemoteError::Redirected { url: first.to_string(), to }).into()
                        }
                        None => error.into(),
                    });
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Ends the worker. The next one goes there.
    fn go_to(&mut self, there: RepositoryUrl) -> Result<(), GatewayError> {
        tracing::debug!(from = %self.errand.url, to = %there, "following a redirect");
        self.end_worker()?;
        let first = std::mem::replace(&mut self.errand.url, there);
        let trusted = trust_alone(&self.errand.credentials);
        if trusted.secret_keys().len() < self.errand.credentials.secret_keys().len() {
            self.left_behind = Some(first);
        }
        self.errand.credentials = trusted;
        Ok(())
    }
}

/// Whether a worker may send its successor from one URL to another: to another origin of the same host, and never from
/// TLS to plain text. A worker follows redirects within its origin itself.
fn may_follow(here: &RepositoryUrl, there: &RepositoryUrl) -> bool {
    let is_web = |url: &RepositoryUrl| matches!(url.scheme(), Scheme::Https | Scheme::Http);
    let origin = |url: &RepositoryUrl| (url.scheme(), url.port());
    is_web(here)
        && is_web(there)
        && here.host() == there.host()
        && origin(here) != origin(there)
        && (here.scheme(), there.scheme()) != (Scheme::Https, Scheme::Http)
}

/// The certificate authorities of a secret, without its secrets.
fn trust_alone(credentials: &Credentials) -> Credentials {
    let keys = credentials.secret_keys().iter();
    let authorities = keys.filter(|(key, _)| key.ends_with("ca.crt")).map(|(key, value)| (key.clone(), value.clone()));
    // They were accepted together with the other keys.
    Credentials::from_secret_keys(authorities.collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_cannot_send_its_successor_to_another_host_or_to_plain_text() {
        let follows =
            |here, there| may_follow(&RepositoryUrl::parse(here).unwrap(), &RepositoryUrl::parse(there).unwrap());
        for there in ["https://host/y", "http://host:8080/x", "https://host:8443/x"] {
            assert!(follows("http://host/x", there), "{there}");
        }
        for there in ["http://host/y", "https://other/x", "ssh://host/x", "file:///x", "git://host/x"] {
            assert!(!follows("http://host/x", there), "{there}");
        }
        for there in ["http://host/x", "http://host:8080/x"] {
            assert!(!follows("https://host/x", there), "{there}");
        }
    }
}
