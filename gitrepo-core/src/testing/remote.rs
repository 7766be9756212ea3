//! A git server that has no network: what it serves, refuses and holds back is up to the test.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use super::gate::Barrier;
use super::gate::Gate;
use super::repository::FakeRepository;
use super::repository::Pack;
use crate::cancel::Cancel;
use crate::credentials::Accepted;
use crate::credentials::PresentedKey;
use crate::error::Cause;
use crate::pack;
use crate::pack::fake::OnlyBlobs;
use crate::progress::Step;
use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::Remote;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::remote::advertisement::Advertisement;
use crate::remote::repository;
use crate::remote::repository::Repository;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::Scheme;

/// A remote in this process. Clones are the same remote.
#[derive(Debug, Clone, Default)]
pub struct FakeRemote(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, FakeRepository>,
    required: Option<(String, String)>,
    host_key: Option<(String, Vec<u8>)>,
    gates: Vec<(Verb, Arc<Barrier>)>,
    failures: Vec<(Verb, RemoteError)>,
    calls: Vec<Verb>,
}

/// What a client asks of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To connect, which the first of the other two does.
    Connect,
    /// [`Connection::resolve`].
    Resolve,
    /// [`Connection::fetch`].
    Fetch,
}

impl FakeRemote {
    /// Starts without repositories, and accepts everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with a repository of one commit at `url`, with an empty README.
    pub fn of_one(url: &RepositoryUrl) -> Self {
        let (remote, repository) = (Self::new(), FakeRepository::default());
        repository.commit("main", &[("README", b"")]);
        remote.serve(url, &repository);
        remote
    }

    /// Serves `repository` at `url` from now on.
    pub fn serve(&self, url: &RepositoryUrl, repository: &FakeRepository) {
        self.state().repositories.insert(url.to_string(), repository.clone());
    }

    /// From now on refuses everybody whose secret does not have this `value` for `key`, such as `token`.
    pub fn require(&self, key: &str, value: &str) {
        self.state().required = Some((key.to_owned(), value.to_owned()));
    }

    /// Presents this host key to clients that connect over SSH: its type, and the key in SSH's wire format.
    pub fn present_host_key(&self, kind: &str, blob: &[u8]) {
        self.state().host_key = Some((kind.to_owned(), blob.to_owned()));
    }

    /// From now on holds every call of `verb` before it is answered, unless it is given up meanwhile.
    pub fn hold(&self, verb: Verb) -> Gate {
        let barrier = Arc::<Barrier>::default();
        self.state().gates.push((verb, Arc::clone(&barrier)));
        Gate::new(barrier)
    }

    /// Answers the next call of `verb` with `error`. Several are given out in this order.
    pub fn fail(&self, verb: Verb, error: RemoteError) {
        self.state().failures.push((verb, error));
    }

    /// How often `verb` was called, successfully or not.
    pub fn count(&self, verb: Verb) -> usize {
        self.state().calls.iter().filter(|called| **called == verb).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, holds it at the gates, and returns the failure that is meant for it.
    fn call(&self, verb: Verb, cancel: &Cancel) -> Result<(), RemoteError> {
        let mut state = self.state();
        state.calls.push(verb);
        let next = state.failures.iter().position(|(failing, _)| *failing == verb);
        let failure = next.map(|index| state.failures.remove(index).1);
        let gates: Vec<_> =
            state.gates.iter().filter(|(held, _)| *held == verb).map(|(_, gate)| gate.clone()).collect();
        drop(state);
        gates.iter().for_each(|gate| gate.pass(cancel));
        failure.map_or(Ok(()), Err)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Remote for FakeRemote {
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection)) {
        conversation(&mut Conversation { remote: self, request, connected: None, local: None, accepted: None });
    }
}

struct Conversation<'a> {
    remote: &'a FakeRemote,
    request: &'a ConnectRequest,
    connected: Option<Connected>,
    /// Where to fetch into, once something was fetched.
    local: Option<Repository>,
    accepted: Option<String>,
}

struct Connected {
    repository: FakeRepository,
    told: Advertisement,
}

impl Conversation<'_> {
    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    fn broken(&self, error: &git2::Error) -> RemoteError {
        RemoteError::Protocol { url: self.url(), source: Cause::new(error.message()) }
    }

    /// Makes a call that is still wanted, before it and after it.
    fn call(&self, verb: Verb) -> Result<(), RemoteError> {
        self.check_wanted()?;
        self.remote.call(verb, &self.request.watch.cancel)?;
        self.check_wanted()
    }

    fn check_wanted(&self) -> Result<(), RemoteError> {
        let cancel = &self.request.watch.cancel;
        cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url(), source })
    }

    fn connect(&mut self) -> Result<&Connected, RemoteError> {
        if self.connected.is_none() {
            self.call(Verb::Connect)?;
            self.check_host_key()?;
            self.authenticate()?;
            let repository = self.remote.state().repositories.get(&self.url()).cloned();
            let repository =
                repository.ok_or_else(|| RemoteError::RepositoryNotFound { url: self.url(), source: None })?;
            let told = repository.advertisement().map_err(|error| self.broken(&error))?;
            self.connected = Some(Connected { repository, told });
        }
        self.connected.as_ref().ok_or_else(|| self.broken(&git2::Error::from_str("not connected")))
    }

    fn check_host_key(&mut self) -> Result<(), RemoteError> {
        let url = &self.request.errand.url;
        let (Scheme::Ssh, Some(host), Some(port)) = (url.scheme(), url.host(), url.port()) else { return Ok(()) };
        if let Some((kind, blob)) = &self.remote.state().host_key
            && let Accepted::New { line } =
                self.request.errand.host_keys.check(host, port, &PresentedKey { kind, blob })?
        {
            self.accepted = Some(line);
        }
        Ok(())
    }

    fn authenticate(&self) -> Result<(), RemoteError> {
        let Some((key, value)) = self.remote.state().required.clone() else { return Ok(()) };
        match self.request.errand.credentials.secret_keys().get(&key) {
            Some(given) if given.expose() == value => Ok(()),
            Some(_) => Err(RemoteError::CredentialRefused { url: self.url(), offered: key, source: None }),
            None => Err(RemoteError::CredentialMissing { url: self.url(), wanted: key, source: None }),
        }
    }

    /// Gives out a commit by its id, or because a ref stands there.
    fn give_out(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        let url = self.url();
        let Connected { repository, told } = self.connect()?;
        let by_id = repository.serves_any_commit() || told.leading_to(commit, None).is_some();
        match repository.kind(commit, told) {
            _ if !by_id => Err(RemoteError::CommitNotProven { url, commit }),
            Ok(Some(git2::ObjectType::Commit)) => repository.object(commit).map_err(|error| self.broken(&error)),
            Ok(Some(kind)) => {
                Err(RemoteError::NotACommit { url, revision: commit.to_string(), object: kind.to_string() })
            }
            Ok(None) => Err(RemoteError::CommitNotFound { url, commit, source: None }),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Brings what is missing into the local repository. Returns its bytes and objects.
    fn bring(&mut self, request: &FetchRequest) -> Result<(u64, u64), RemoteError> {
        let Resolved { commit, reference, .. } = &request.resolved;
        let (url, connect) = (self.url(), self.request);
        self.connect()?;
        if self.local.is_none() {
            let (path, base) = (connect.errand.repository(), connect.errand.base.as_deref());
            self.local = path.map(|path| Repository::create(&path, base)).transpose()?;
        }
        let is_here = match &self.local {
            Some(local) => local.has(*commit)?,
            None => false,
        };
        if request.proves && is_here {
            self.give_out(*commit)?;
        }
        let (Some(Connected { repository, told }), Some(local)) = (&self.connected, &self.local) else {
            let source = Cause::new("this conversation was begun without a repository");
            return Err(RemoteError::Local { path: "(none)".into(), full: false, source });
        };
        let is_enough = request.depth == 1 || local.shallow()?.is_empty();
        if is_enough && local.holds(*commit) {
            return Ok((0, 0));
        }
        let broken =
            |error: git2::Error| RemoteError::Protocol { url: url.clone(), source: Cause::new(error.message()) };
        match repository.kind(*commit, told).map_err(broken)? {
            Some(git2::ObjectType::Commit) => {}
            Some(kind) => {
                let revision = reference.clone().unwrap_or_else(|| commit.to_string());
                return Err(RemoteError::NotACommit { url: url.clone(), revision, object: kind.to_string() });
            }
            None if repository.serves_any_commit() => {
                return Err(RemoteError::CommitNotFound { url: url.clone(), commit: *commit, source: None });
            }
            None => return Err(RemoteError::CommitUnreachable { url: url.clone(), commit: *commit }),
        }
        let pack = repository.pack(*commit, request.depth, local).map_err(broken)?;
        let (bytes, objects) = (pack.bytes.len() as u64, pack.objects);
        let limit = connect.errand.limits.fetch_bytes;
        if bytes > limit {
            return Err(RemoteError::TooLarge { url: url.clone(), limit });
        }
        connect.watch.progress.report(&Step::Fetching { bytes, objects, total_objects: objects });
        install(local, &pack)?;
        local.set_shallow(&pack.boundary.iter().copied().map(repository::commit_id).collect())?;
        local.record([*commit])?;
        Ok((bytes, objects))
    }
}

/// Adds a pack to a repository.
fn install(local: &Repository, pack: &Pack) -> Result<(), RemoteError> {
    let failed = |error| RemoteError::Protocol { url: String::new(), source: Cause::new(error) };
    pack::fake::ingest(&mut &pack.bytes[..], &local.places(u64::MAX), &OnlyBlobs(&[]), &mut |_| true).map_err(failed)
}

impl Connection for Conversation<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        self.request.watch.progress.report(&Step::Resolving);
        if let Revision::Commit(commit) = *revision {
            return self.prove(commit).map(|_| Resolved::new(commit, None));
        }
        self.connect()?;
        self.call(Verb::Resolve)?;
        let url = &self.request.errand.url;
        let told = &self.connect()?.told;
        told.resolve(revision).ok_or_else(|| told.missing(revision, url))
    }

    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.request.watch.progress.report(&Step::Resolving);
        self.connect()?;
        self.call(Verb::Resolve)?;
        self.give_out(commit)
    }

    fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        let content = self.connect()?.repository.object(tag);
        content.map_err(|error| self.broken(&error))
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        self.call(Verb::Fetch)?;
        let (received_bytes, received_objects) = self.bring(request)?;
        Ok(FetchReport { commit: request.resolved.commit, received_bytes, received_objects, narrow: false })
    }

    fn accepted_host_key(&self) -> Option<String> {
        self.accepted.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::content::Segments;
    use crate::remote::Errand;
    use crate::watch::Watch;

    fn url() -> RepositoryUrl {
        RepositoryUrl::parse("https://git.example.com/a.git").unwrap()
    }

    fn ask<T>(remote: &FakeRemote, errand: Errand, ask: impl Fn(&mut dyn Connection) -> T) -> T {
        let mut answer = None;
        let request = ConnectRequest::new(errand, Watch::default());
        remote.converse(&request, &mut |connection| answer = Some(ask(connection)));
        answer.unwrap()
    }

    fn resolve(remote: &FakeRemote, revision: &str) -> Result<Resolved, RemoteError> {
        ask(remote, Errand::new(url()), |connection| connection.resolve(&Revision::parse(revision).unwrap()))
    }

    #[test]
    fn a_repository_in_memory_is_resolved_and_fetched() {
        let (remote, repository) = (FakeRemote::new(), FakeRepository::default());
        remote.serve(&url(), &repository);
        assert!(matches!(resolve(&remote, "HEAD"), Err(RemoteError::EmptyRepository { .. })));
        let first = repository.commit("main", &[("README", b"one"), ("a/b/c", b"deep"), ("a/d", b"")]);
        let second = repository.commit("main", &[("README", b"two")]);
        repository.annotated_tag("v1", first);
        repository.set_ref("refs/heads/other", first);
        repository.set_head("other");
        for (revision, commit) in [("HEAD", first), ("main", second), ("v1", first)] {
            assert_eq!(resolve(&remote, revision).unwrap().commit, commit, "{revision}");
        }
        let place = tempfile::tempdir().unwrap();
        let errand = Errand { staging: Some(place.path().to_owned()), ..Errand::new(url()) };
        let report = ask(&remote, errand.clone(), |connection| {
            let resolved = connection.resolve(&Revision::Head)?;
            connection.fetch(&FetchRequest::new(resolved, 1))
        });
        // The commit, three trees and three files.
        assert_eq!(report.unwrap().received_objects, 7);
        let fetched = git2::Repository::open(errand.repository().unwrap()).unwrap();
        let tree = fetched.find_commit(repository::oid(first)).unwrap().tree().unwrap();
        let blob = tree.get_path(std::path::Path::new("a/b/c")).unwrap().id();
        let segments = Segments::open(fetched.path()).unwrap();
        let mut content = String::new();
        segments.read(segments.locate(&[blob]).unwrap()[0].unwrap()).read_to_string(&mut content).unwrap();
        assert_eq!(content, "deep");
    }

    #[test]
    fn calls_are_counted_and_fail_once_as_the_test_says() {
        let (remote, repository) = (FakeRemote::new(), FakeRepository::default());
        repository.commit("main", &[]);
        remote.serve(&url(), &repository);
        remote.fail(Verb::Resolve, RemoteError::OutOfMemory { url: url().to_string() });
        assert!(matches!(resolve(&remote, "main"), Err(RemoteError::OutOfMemory { .. })));
        resolve(&remote, "main").unwrap();
        assert_eq!([Verb::Connect, Verb::Resolve, Verb::Fetch].map(|verb| remote.count(verb)), [2, 2, 0]);
    }
}
