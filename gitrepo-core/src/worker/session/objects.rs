//! Requests about objects of Git LFS.

use super::Phase;
use super::Reply;
use super::Request;
use super::Session;
use super::WorkerError;
use crate::lfs;
use crate::lfs::Endpoint;
use crate::lfs::Missing;
use crate::remote::ObjectsFetched;
use crate::remote::ObjectsRequest;
use crate::snapshot::TreeRequest;

impl Session {
    /// Says which objects of Git LFS the tree of the fetched commit lacks.
    ///
    /// # Errors
    ///
    /// Errors of the snapshot format, and of the worker itself.
    pub(crate) fn missing_objects(&mut self, request: &TreeRequest) -> Result<Missing, WorkerError> {
        match self.exchange(Request::Missing(request.clone()), Phase::Writing)? {
            Reply::Missing(missing) if missing.objects.len() <= lfs::PAGE => Ok(missing),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Has a remote over SSH say which server has its objects of Git LFS. See
    /// [`Connection::objects_endpoint`](crate::remote::Connection::objects_endpoint).
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself.
    pub(crate) fn objects_endpoint(&mut self) -> Result<Endpoint, WorkerError> {
        match self.exchange(Request::ObjectsEndpoint, Phase::Resolving)? {
            Reply::ObjectsEndpoint(endpoint) => Ok(endpoint.into()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Fetches objects of Git LFS. See [`Connection::fetch_objects`](crate::remote::Connection::fetch_objects).
    ///
    /// # Errors
    ///
    /// Errors of the remote, and of the worker itself. Objects that came before are kept.
    pub(crate) fn fetch_objects(&mut self, request: ObjectsRequest) -> Result<ObjectsFetched, WorkerError> {
        match self.exchange(Request::FetchObjects(request.into()), Phase::Fetching)? {
            Reply::ObjectsFetched(fetched) => Ok(fetched.into()),
            other => Err(self.unexpected(&other)),
        }
    }
}
