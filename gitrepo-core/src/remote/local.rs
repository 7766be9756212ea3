//! A repository on this machine, read through libgit2: nothing is started to serve it.

use std::path::Path;

use git2::AutotagOption;
use git2::Direction;
use git2::ErrorCode;
use git2::FetchOptions;
use git2::RemoteCallbacks;

use super::ConnectRequest;
use super::FetchRequest;
use super::RemoteError;
use super::Resolved;
use super::advertisement::Advertisement;

use super::git::Arrived;
use super::repository::Repository;
use super::repository::commit_id;
use crate::error::Cause;
use crate::progress::Step;
use crate::spec::Revision;
use crate::sys;

/// A repository of a `file` URL.
pub(super) struct Local<'a> {
    request: &'a ConnectRequest,
}

impl<'a> Local<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self { request }
    }

    /// Looks where `revision` stands.
    pub(super) fn resolve(&self, revision: &Revision) -> Result<Resolved, RemoteError> {
        sys::git::isolate().map_err(|error| RemoteError::Library { source: Cause::new(error.message()) })?;
        let path = Path::new(self.request.errand.url.path());
        let failed = |error: git2::Error| self.failure(&error);
        let source = git2::Repository::open(path).map_err(failed)?;
        let mut remote = source.remote_anonymous(&self.request.errand.url.transport()).map_err(failed)?;
        remote.connect(Direction::Fetch).map_err(failed)?;
        let mut refs = Advertisement::default();
        for head in remote.list().map_err(failed)? {
            let (name, symref) = sys::git::head_names(head);
            let added = refs.add(name, commit_id(head.oid()), None, symref);
            added.map_err(|error| RemoteError::Protocol { url: self.url(), source: Cause::new(error) })?;
        }
        refs.resolve(revision).ok_or_else(|| refs.missing(revision, &self.request.errand.url))
    }

    /// Copies the commit with its whole history: libgit2 copies no less from a path.
    pub(super) fn bring(&self, request: &FetchRequest, repository: &Repository) -> Result<Arrived, RemoteError> {
        let commit = request.resolved.commit;
        let mut remote = repository.remote(&self.request.errand.url)?;
        let mut arrived = Arrived::default();
        let limit = self.request.errand.limits.fetch_bytes;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            arrived = Arrived { bytes: progress.received_bytes() as u64, objects: progress.received_objects() as u64 };
            let total_objects = progress.total_objects() as u64;
            self.request.watch.progress.report(&Step::Fetching {
                bytes: arrived.bytes,
                objects: arrived.objects,
                total_objects,
            });
            self.request.watch.cancel.check().is_ok() && arrived.bytes <= limit
        });
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
        let outcome = remote.download(&[format!("{commit}:refs/commits/{commit}")], Some(&mut options));
        drop(options);
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url(), source })?;
        if arrived.bytes > limit {
            return Err(RemoteError::TooLarge { url: self.url(), limit });
        }
        match outcome {
            Ok(()) => Ok(arrived),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let source = Some(Cause::new(error.message()));
                Err(RemoteError::CommitNotFound { url: self.url(), commit, source })
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    fn failure(&self, error: &git2::Error) -> RemoteError {
        let source = Cause::new(error.message());
        match error.code() {
            ErrorCode::NotFound => RemoteError::RepositoryNotFound { url: self.url(), source: Some(source) },
            _ => RemoteError::Protocol { url: self.url(), source },
        }
    }
}
