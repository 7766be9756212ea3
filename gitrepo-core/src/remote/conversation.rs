//! A conversation about one repository: resolve and fetch over one connection.

use git2::ObjectType;

use super::ConnectRequest;
use super::Connection;
use super::Errand;
use super::FetchReport;
use super::FetchRequest;
use super::ObjectsFetched;
use super::ObjectsRequest;
use super::Remote;
use super::RemoteError;
use super::Resolved;
use super::git::Arrived;
use super::git::Server;
use super::local::Local;
use super::objects;
use super::repository::Repository;
use super::repository::Verifier;
use super::repository::oid;
use super::repository::refusal;
use super::transport;
use crate::error::Cause;
use crate::lfs::Endpoint;
use crate::pack::MOST_BOUNDARIES;
use crate::pack::Outlet;
use crate::progress::Step;
use crate::spec::CommitId;
use crate::spec::Revision;

/// Access to git servers over HTTP, SSH and git's own protocol, and to repositories on this machine.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Git;

impl Remote for Git {
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection)) {
        let source = match transport::open(request) {
            Some(transport) => Source::Server(Server::new(request, transport)),
            None => Source::Local(Local::new(request)),
        };
        conversation(&mut Conversation { request, source, keeper: None, accepted: None });
    }
}

struct Conversation<'a> {
    request: &'a ConnectRequest,
    source: Source<'a>,
    /// Once something was fetched.
    keeper: Option<Keeper>,
    /// The host key that was accepted on the way to a server of Git LFS.
    accepted: Option<String>,
}

/// Who keeps and verifies the objects of a fetch.
enum Keeper {
    /// Another process. The repository shows what is here; `None` until something is fetched that builds on it.
    Other(Outlet, Option<Repository>),
    /// This process, for embedders and tests.
    Ours(Box<Verifier>),
}

/// Where the repository is.
enum Source<'a> {
    Server(Server<'a>),
    Local(Local<'a>),
}

impl Connection for Conversation<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        self.check_wanted()?;
        self.request.watch.progress.report(&Step::Resolving);
        match *revision {
            Revision::Commit(commit) => self.source.prove(commit).map(|_| Resolved::new(commit, None)),
            _ => self.source.resolve(revision),
        }
    }

    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.check_wanted()?;
        self.request.watch.progress.report(&Step::Resolving);
        self.source.prove(commit)
    }

    fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.check_wanted()?;
        self.request.watch.progress.report(&Step::Resolving);
        match &mut self.source {
            Source::Server(server) => server.tag(tag),
            Source::Local(local) => local.tag(tag),
        }
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        self.check_wanted()?;
        // Before anything is written: the first answer may be a redirect, which another session follows.
        if let Source::Server(server) = &mut self.source {
            server.greet()?;
        }
        let url = self.request.errand.url.to_string();
        let keeper = match self.keeper.take() {
            Some(keeper) => keeper,
            None => self.begin_to_keep(Verifier::begin)?,
        };
        let keeper = self.keeper.insert(keeper);
        let (Arrived { bytes, objects }, narrow) = match keeper {
            Keeper::Other(outlet, repository) => {
                let repository = match repository.take() {
                    Some(made) => repository.insert(made),
                    None => repository.insert(beside(&self.request.errand, outlet)?),
                };
                // The verifier tells whether it is narrow.
                (self.source.hand_over(request, repository, outlet, &url)?, false)
            }
            Keeper::Ours(verifier) => {
                let repository = verifier.repository()?.anew()?;
                let arrived =
                    verifier.take_beside(|outlet| self.source.hand_over(request, &repository, outlet, &url))?;
                (arrived, verifier.check(request)?)
            }
        };
        Ok(FetchReport { commit: request.resolved.commit, received_bytes: bytes, received_objects: objects, narrow })
    }

    fn objects_endpoint(&mut self) -> Result<Endpoint, RemoteError> {
        self.check_wanted()?;
        let (endpoint, accepted) = transport::objects_endpoint(self.request)?;
        self.accepted = accepted.or(self.accepted.take());
        Ok(endpoint)
    }

    fn fetch_objects(&mut self, request: ObjectsRequest) -> Result<ObjectsFetched, RemoteError> {
        self.check_wanted()?;
        let keeper = match self.keeper.take() {
            Some(keeper) => keeper,
            None => self.begin_to_keep(|verifier| verifier.repository().map(drop))?,
        };
        match self.keeper.insert(keeper) {
            Keeper::Other(outlet, _) => objects::fetch(self.request, request, outlet),
            Keeper::Ours(verifier) => {
                let wanted: Vec<_> = request
                    .objects
                    .iter()
                    .chain(request.actions.iter().map(|action| &action.object))
                    .cloned()
                    .collect();
                let receive = |outlet: &mut Outlet| objects::fetch(self.request, request, outlet);
                let (fetched, here) = verifier.take_objects_beside(&wanted, receive)?;
                Ok(ObjectsFetched { here, ..fetched })
            }
        }
    }

    fn accepted_host_key(&self) -> Option<String> {
        match &self.source {
            Source::Server(server) => server.accepted_host_key().or_else(|| self.accepted.clone()),
            Source::Local(_) => None,
        }
    }
}

/// The repository of this process, beside that of the one that keeps the objects.
fn beside(errand: &Errand, outlet: &Outlet) -> Result<Repository, RemoteError> {
    let path =
        errand.repository().ok_or_else(|| RemoteError::Library { source: Cause::new("there is no directory") })?;
    Repository::create_beside(&path, errand.base.as_deref(), outlet.kept())
}

impl Conversation<'_> {
    fn check_wanted(&self) -> Result<(), RemoteError> {
        let url = &self.request.errand.url;
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: url.to_string(), source })
    }

    fn begin_to_keep(
        &self,
        begin: impl FnOnce(&mut Verifier) -> Result<(), RemoteError>,
    ) -> Result<Keeper, RemoteError> {
        match self.request.take_outlet() {
            Some(outlet) => Ok(Keeper::Other(outlet, None)),
            None => {
                let mut verifier = Verifier::new(&self.request.errand)?;
                begin(&mut verifier)?;
                Ok(Keeper::Ours(Box::new(verifier)))
            }
        }
    }
}

impl Source<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        match self {
            Self::Server(server) => server.resolve(revision),
            Self::Local(local) => local.resolve(revision),
        }
    }

    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        match self {
            Self::Server(server) => server.prove(commit),
            Self::Local(local) => local.prove(commit),
        }
    }

    /// Hands over what is missing of the commit and its history in `repository`.
    fn hand_over(
        &mut self,
        request: &FetchRequest,
        repository: &Repository,
        outlet: &mut Outlet,
        url: &str,
    ) -> Result<Arrived, RemoteError> {
        let commit = request.resolved.commit;
        // What is here is not sent again, so that a fetch would prove nothing.
        if request.proves && repository.has(commit)? {
            let content = self.prove(commit)?;
            let handed_over = outlet.hand_over(ObjectType::Commit, &content);
            handed_over.map_err(|error| refusal(error, url, repository.path(), false))?;
        }
        let offer = repository.offer(request.offers.as_deref())?;
        let is_enough = request.depth == 1 || repository.shallow()?.is_empty();
        let arrived = match self {
            _ if is_enough && repository.holds(commit) => Arrived::default(),
            Source::Server(server) => server.bring(request, &offer, repository, outlet)?,
            Source::Local(local) => local.bring(request, repository, outlet)?,
        };
        // Of what the server was not told of, the parents may have come, too: the verifier looks.
        let boundary: Vec<_> = repository.shallow()?.difference(&offer.untold).copied().map(oid).collect();
        if boundary.len() > MOST_BOUNDARIES {
            let source = Cause::new("its history is cut in too many places");
            return Err(RemoteError::Protocol { url: url.to_owned(), source });
        }
        outlet.finish(&boundary).map_err(|error| refusal(error, url, repository.path(), false))?;
        Ok(arrived)
    }
}
