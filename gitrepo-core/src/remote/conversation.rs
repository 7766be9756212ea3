//! A conversation about one repository: resolve and fetch over one connection.

use std::path::Path;

use super::ConnectRequest;
use super::Connection;
use super::FetchReport;
use super::FetchRequest;
use super::Remote;
use super::RemoteError;
use super::Resolved;
use super::git::Arrived;
use super::git::Server;
use super::local::Local;
use super::repository::Found;
use super::repository::Repository;
use super::transport;
use crate::error::Cause;
use crate::progress::Step;
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
        conversation(&mut Conversation { request, source, repository: None });
    }
}

struct Conversation<'a> {
    request: &'a ConnectRequest,
    source: Source<'a>,
    repository: Option<Repository>,
}

/// Where the repository is.
enum Source<'a> {
    Server(Server<'a>),
    Local(Local<'a>),
}

impl Source<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        match self {
            Self::Server(server) => server.resolve(revision),
            Self::Local(local) => local.resolve(revision),
        }
    }
}

impl Connection for Conversation<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        self.check_wanted()?;
        self.request.watch.progress.report(&Step::Resolving);
        self.source.resolve(revision)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        self.check_wanted()?;
        // Before anything is written: the first answer may be a redirect, which another session follows.
        if let Source::Server(server) = &mut self.source {
            server.greet()?;
        }
        let resolved = &request.resolved;
        let repository = match self.repository.take() {
            Some(repository) => repository,
            None => self.create_repository()?,
        };
        let repository = self.repository.insert(repository);
        // What is here is not sent again, so that a fetch would prove nothing.
        if request.proves && repository.has(resolved.commit)? {
            self.source.resolve(&Revision::Commit(resolved.commit))?;
        }
        let is_enough = request.depth == 1 || repository.shallow()?.is_empty();
        let mut arrived = Arrived::default();
        if !(is_enough && repository.holds(resolved.commit)) {
            arrived = match &mut self.source {
                Source::Server(server) => server.bring(request, repository)?,
                Source::Local(local) => local.bring(request, repository)?,
            };
            verify(repository, resolved, &self.request.errand.url.to_string())?;
            repository.record([resolved.commit])?;
        }
        Ok(FetchReport { commit: resolved.commit, received_bytes: arrived.bytes, received_objects: arrived.objects })
    }

    fn accepted_host_key(&self) -> Option<String> {
        match &self.source {
            Source::Server(server) => server.accepted_host_key(),
            Source::Local(_) => None,
        }
    }
}

impl Conversation<'_> {
    fn check_wanted(&self) -> Result<(), RemoteError> {
        let url = &self.request.errand.url;
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: url.to_string(), source })
    }

    fn create_repository(&self) -> Result<Repository, RemoteError> {
        let errand = &self.request.errand;
        match errand.repository() {
            Some(path) => Repository::create(&path, errand.base.as_deref()),
            None => Err(RemoteError::Local {
                path: Path::new("(none)").to_owned(),
                full: false,
                source: Cause::new("this conversation was begun without a directory to fetch into"),
            }),
        }
    }
}

/// Checks what is in the repository, not what the server claimed.
fn verify(repository: &Repository, resolved: &Resolved, url: &str) -> Result<(), RemoteError> {
    let (url, commit) = (url.to_owned(), resolved.commit);
    let not_a_commit = |object: String| {
        let revision = resolved.reference.clone().unwrap_or_else(|| commit.to_string());
        Err(RemoteError::NotACommit { url: url.clone(), revision, object })
    };
    match repository.peel(commit)? {
        Found::Commit(found) if found == commit => Ok(()),
        // Requested by its id, the object is exactly that: an annotated tag.
        Found::Commit(_) => not_a_commit("tag".to_owned()),
        Found::Other(kind) => not_a_commit(kind.to_string()),
        Found::Nothing if resolved.reference.is_none() => {
            Err(RemoteError::CommitNotFound { url, commit, source: None })
        }
        Found::Nothing => {
            let source = Cause::new(format_args!("it did not send {commit} with its tree"));
            Err(RemoteError::Protocol { url, source })
        }
    }
}
