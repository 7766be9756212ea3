//! A conversation over libgit2: connects, and requests a pack in whichever way the server allows.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use git2::AutotagOption;
use git2::FetchOptions;
use git2::FetchPrune;
use git2::ObjectType;

use super::callbacks::Callbacks;
use super::error::Failure;
use super::error::cause;
use super::http::Http;
use super::start_up;
use crate::error::Cause;
use crate::progress::Step;
use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::remote::advertisement::Advertisement;
use crate::remote::http::Server;
use crate::remote::repository;
use crate::remote::repository::Found;
use crate::remote::repository::commit_id;
use crate::remote::repository::oid;
use crate::remote::transfer::Arrived;
use crate::spec::CommitId;
use crate::spec::Revision;
use crate::spec::Scheme;
use crate::sys;

/// A ref name that no server has. Only a download takes all the options that a connection needs, so connecting is a
/// download that requests nothing.
const NOTHING: &str = "refs/gitrepo/nothing";

/// The whole history, even if a repository is already shallow (git's own `INFINITE_DEPTH`).
const WHOLE: i32 = i32::MAX;

/// All branches and tags. libgit2 requires a destination for patterns, but a download writes no refs.
const ALL: [&str; 2] = ["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"];

/// Depths of the search for a commit that no ref points at.
const SEARCH_DEPTHS: [i32; 3] = [50, 500, WHOLE];

/// One conversation.
pub(super) struct Conversation<'a> {
    request: &'a ConnectRequest,
    home: Option<&'a Path>,
    repository: &'a OnceCell<git2::Repository>,
    callbacks: &'a Callbacks<'a>,
    http: OnceCell<Arc<Http>>,
    connected: Option<Connected<'a>>,
}

struct Connected<'a> {
    remote: git2::Remote<'a>,
    advertisement: Advertisement,
}

/// Why a request to the server failed.
enum Unanswered {
    /// Another kind of request may work.
    Failure(Failure, git2::Error),
    /// No other request will work.
    Error(RemoteError),
}

impl From<RemoteError> for Unanswered {
    fn from(error: RemoteError) -> Self {
        Self::Error(error)
    }
}

impl<'a> Conversation<'a> {
    /// `repository` is the path of the local repository, which may not exist yet.
    pub(super) fn new(
        request: &'a ConnectRequest,
        home: Option<&'a Path>,
        repository: &'a OnceCell<git2::Repository>,
        callbacks: &'a Callbacks<'a>,
    ) -> Self {
        Self { request, home, repository, callbacks, http: OnceCell::new(), connected: None }
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    fn repository(&self) -> Result<&'a git2::Repository, RemoteError> {
        if let Some(repository) = self.repository.get() {
            return Ok(repository);
        }
        start_up::start_up(self.request, self.home)?;
        let repository = match self.request.errand.repository() {
            Some(path) => repository::create(&path, self.request.errand.base.as_deref())?,
            None => repository::in_memory()?,
        };
        Ok(self.repository.get_or_init(|| repository))
    }

    fn connected(&mut self) -> Result<&mut Connected<'a>, RemoteError> {
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => self.connect()?,
        };
        Ok(self.connected.insert(connected))
    }

    fn connect(&self) -> Result<Connected<'a>, RemoteError> {
        let repository = self.repository()?;
        self.callbacks.authentication.borrow_mut().start_over();
        let mut remote = repository
            .remote_anonymous(&self.request.errand.url.transport())
            .map_err(|error| Failure::of(&error).describe(&error, self.request))?;
        self.ask(&mut remote, &[NOTHING], 0).map_err(|unanswered| self.describe(unanswered))?;
        let advertisement =
            advertisement(&remote).map_err(|error| Failure::of(&error).describe(&error, self.request))?;
        Ok(Connected { remote, advertisement })
    }

    /// The server for our own HTTP.
    fn http(&self) -> Result<&Arc<Http>, RemoteError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let request = self.request;
        let server = Server {
            url: request.errand.url.clone(),
            credentials: request.errand.credentials.clone(),
            credentials_over_http: request.errand.credentials_over_http,
            proxy: request.errand.proxy.clone(),
            authorities: start_up::authorities(request)?,
            stall: request.errand.limits.stall,
        };
        Ok(self.http.get_or_init(|| Http::new(server)))
    }

    /// Connects if necessary, and downloads the objects of `specs`: refs or commit ids.
    fn ask(&self, remote: &mut git2::Remote<'_>, specs: &[&str], depth: i32) -> Result<(), Unanswered> {
        self.callbacks.transfer.borrow_mut().ask()?;
        let http = self.http()?;
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks.attach())
            .download_tags(AutotagOption::None)
            .prune(FetchPrune::Off)
            .update_fetchhead(false)
            .depth(depth);
        // The error must be read before the next call to libgit2.
        let outcome = http.during(|| remote.download(specs, Some(&mut options)));
        self.callbacks.transfer.borrow().report();
        outcome.map_err(|error| match http.take_refusal() {
            Some(refusal) => refusal.into(),
            None => self.read(error),
        })
    }

    fn read(&self, error: git2::Error) -> Unanswered {
        if let Some(refusal) = self.callbacks.take_refusal() {
            return refusal.into();
        }
        let cause = || cause(&error);
        let authentication = || self.callbacks.authentication.borrow();
        match Failure::of(&error) {
            Failure::Unauthenticated => authentication().unasked(cause()).into(),
            Failure::UnusableKey => authentication().unusable_key(cause()).into(),
            Failure::Unreachable | Failure::Protocol if self.callbacks.transfer.borrow().is_stalled() => {
                Unanswered::Failure(Failure::Stalled, error)
            }
            failure => Unanswered::Failure(failure, error),
        }
    }

    fn describe(&self, unanswered: Unanswered) -> RemoteError {
        match unanswered {
            Unanswered::Failure(failure, error) => failure.describe(&error, self.request),
            Unanswered::Error(error) => error,
        }
    }

    /// Downloads over the present connection or a new one, which cannot be used again: libgit2 carries the state of one
    /// negotiation into the next, which then fails.
    fn download(&mut self, specs: &[&str], depth: i32) -> Result<(), Unanswered> {
        self.connected()?;
        let Some(mut connected) = self.connected.take() else { return Ok(()) };
        let outcome = match self.ask(&mut connected.remote, specs, depth) {
            Err(Unanswered::Failure(Failure::NoShallow, _)) => self.ask(&mut connected.remote, specs, 0),
            outcome => outcome,
        };
        if let Err(Unanswered::Failure(Failure::NoFetchById, _)) = outcome {
            // The error was found before anything was sent.
            self.connected = Some(connected);
        }
        outcome
    }

    /// Downloads the commit by the ref that leads to it, by its id, or by the history of all branches and tags. Returns
    /// the object from which to look for it.
    fn bring(&mut self, resolved: &Resolved, depth: i32) -> Result<git2::Oid, RemoteError> {
        let commit = resolved.commit;
        let head = self.connected()?.advertisement.leading_to(commit, resolved.reference.as_deref());
        let (spec, target) = match head {
            Some(head) => (head.name.clone(), head.target),
            None => (format!("{commit}:refs/commits/{commit}"), oid(commit)),
        };
        match self.download(&[&spec], depth) {
            Ok(()) => {}
            Err(Unanswered::Failure(Failure::NoFetchById, _)) => self.search(commit)?,
            // Even for a ref that it just advertised: a branch may move in between, and a server may lie.
            Err(Unanswered::Failure(Failure::NotOurRef, error)) => {
                let source = Some(cause(&error));
                return Err(RemoteError::CommitNotFound { url: self.url(), commit, source });
            }
            Err(unanswered) => return Err(self.describe(unanswered)),
        }
        Ok(target)
    }

    /// Downloads more and more history until `commit` is in it.
    fn search(&mut self, commit: CommitId) -> Result<(), RemoteError> {
        let repository = self.repository()?;
        for depth in SEARCH_DEPTHS {
            let outcome = self.download(&ALL, depth);
            outcome.map_err(|unanswered| self.describe(unanswered))?;
            if repository.find_commit(oid(commit)).is_ok() {
                return Ok(());
            }
            if !repository.is_shallow() {
                break;
            }
            // What was received is offered in the next round, so that only older history is sent.
            let tips = self.connected()?.advertisement.branches_and_tags().filter_map(|head| {
                match repository::peel(repository, head.target) {
                    Ok(Found::Commit(tip)) => Some(commit_id(tip)),
                    _ => None,
                }
            });
            repository::record(repository, tips).map_err(|error| self.local(&error))?;
        }
        Err(RemoteError::CommitUnreachable { url: self.url(), commit })
    }

    /// Checks what is in the repository, not what the server claimed.
    fn verify(&self, target: git2::Oid, resolved: &Resolved) -> Result<(), RemoteError> {
        let found = repository::peel(self.repository()?, target)
            .map_err(|error| Failure::of(&error).describe(&error, self.request))?;
        let protocol = |text: &str| Err(RemoteError::Protocol { url: self.url(), source: Cause::new(text) });
        match found {
            Found::Commit(commit) if commit == oid(resolved.commit) => Ok(()),
            // Requested by id, the object is exactly that: an annotated tag.
            Found::Commit(_) if target == oid(resolved.commit) => Err(self.not_a_commit(resolved, ObjectType::Tag)),
            Found::Commit(commit) => {
                protocol(&format!("{target} leads to {commit}, not to {} as it said", resolved.commit))
            }
            Found::Nothing if resolved.reference.is_none() => {
                Err(RemoteError::CommitNotFound { url: self.url(), commit: resolved.commit, source: None })
            }
            Found::Nothing => protocol(&format!("it did not send {} with its tree", resolved.commit)),
            Found::Other(kind) => Err(self.not_a_commit(resolved, kind)),
        }
    }

    fn not_a_commit(&self, resolved: &Resolved, object: ObjectType) -> RemoteError {
        let revision = resolved.reference.clone().unwrap_or_else(|| resolved.commit.to_string());
        RemoteError::NotACommit { url: self.url(), revision, object: object.to_string() }
    }

    fn arrived(&self) -> Arrived {
        self.callbacks.transfer.borrow().arrived()
    }

    fn local(&self, error: &git2::Error) -> RemoteError {
        repository::unusable(
            self.request.errand.repository().as_deref().unwrap_or(Path::new(repository::IN_MEMORY)),
            error,
        )
    }

    /// The depth for libgit2: 0 means all, if the history is not already cut short.
    fn depth(&self, depth: u32) -> Result<i32, RemoteError> {
        let is_shallow = self.repository()?.is_shallow();
        Ok(match depth {
            // libgit2 does not support depth there.
            _ if self.request.errand.url.scheme() == Scheme::File => 0,
            0 if is_shallow => WHOLE,
            depth => i32::try_from(depth).unwrap_or(WHOLE),
        })
    }
}

impl Connection for Conversation<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        self.request.watch.progress.report(&Step::Resolving);
        let url = &self.request.errand.url;
        self.connected()?.advertisement.resolve(revision, url)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        let resolved = &request.resolved;
        if self.request.errand.repository().is_none() {
            return Err(self.local(&git2::Error::from_str("this conversation was begun without one")));
        }
        let repository = self.repository()?;
        let earlier = self.arrived();
        let is_enough = request.depth == 1 || !repository.is_shallow();
        if !(is_enough && repository::holds(repository, resolved.commit)) {
            let depth = self.depth(request.depth)?;
            let was_connected = self.connected.is_some();
            let target = match self.bring(resolved, depth) {
                // The server may have closed the idle connection.
                Err(RemoteError::Unreachable { .. } | RemoteError::Protocol { .. })
                    if was_connected && self.arrived() == earlier =>
                {
                    self.bring(resolved, depth)?
                }
                outcome => outcome?,
            };
            self.verify(target, resolved)?;
            repository::record(repository, [resolved.commit]).map_err(|error| self.local(&error))?;
        }
        let arrived = self.arrived();
        Ok(FetchReport {
            commit: resolved.commit,
            received_bytes: arrived.bytes - earlier.bytes,
            received_objects: arrived.objects - earlier.objects,
        })
    }

    fn accepted_host_key(&self) -> Option<String> {
        self.callbacks.accepted_host_key()
    }
}

fn advertisement(remote: &git2::Remote<'_>) -> Result<Advertisement, git2::Error> {
    let mut advertisement = Advertisement::default();
    for head in remote.list()? {
        let (name, symref) = sys::git::head_names(head);
        advertisement.add(name, head.oid(), symref);
    }
    Ok(advertisement)
}
