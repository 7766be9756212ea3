//! The loop that answers requests, for a confined child and for a thread.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use super::TREE;
use super::protocol::Reply;
use super::protocol::Request;
use super::protocol::RequestError;
use super::signature;
use crate::error::Cause;
use crate::error::chain;
use crate::pack::Inlet;
use crate::progress::Progress;
use crate::progress::Step;
use crate::remote;
use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::REPOSITORY;
use crate::remote::Remote;
use crate::remote::RemoteError;
use crate::remote::Verifier;
use crate::signature::SignatureRequest;
use crate::snapshot;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;

/// The source of requests and the destination of replies.
pub(super) trait Client {
    /// Waits for the next request; `None` once there are no more.
    fn next(&mut self) -> Option<Request>;

    /// Returns the destination of replies, for any thread.
    fn replies(&self) -> Arc<dyn Replies>;
}

/// Takes replies. A reply that nobody reads is lost: its reader is gone.
pub(super) trait Replies: Send + Sync {
    /// Sends one reply.
    fn send(&self, reply: Reply);
}

/// Answers the requests of `client` over one connection, until there are no more.
pub(super) fn serve(remote: &dyn Remote, request: &ConnectRequest, client: &mut dyn Client) {
    let replies = client.replies();
    let mut accepted = None;
    remote.converse(request, &mut |connection| {
        while let Some(received) = client.next() {
            let answer = answer(request, connection, received);
            if let Some(line) = connection.accepted_host_key()
                && accepted.as_ref() != Some(&line)
            {
                accepted = Some(line.clone());
                replies.send(Reply::AcceptedHostKey { line });
            }
            replies.send(answer);
        }
    });
}

fn answer(session: &ConnectRequest, connection: &mut dyn Connection, received: Request) -> Reply {
    match received {
        Request::Resolve(revision) => connection.resolve(&revision).map_or_else(remote_failure, Reply::Resolved),
        Request::Prove(commit) => connection.prove(commit).map_or_else(remote_failure, Reply::Proven),
        Request::Tag(tag) => connection.tag(tag).map_or_else(remote_failure, Reply::Tag),
        Request::Fetch(request) => connection.fetch(&request).map_or_else(remote_failure, Reply::Fetched),
        Request::CheckSignature(request) => check_signature(session, &request),
        Request::WriteTree(request) => write_tree(session, &request),
        Request::Compact => compact(session),
        Request::Missing(request) => missing(session, &request),
        Request::ObjectsEndpoint => {
            connection.objects_endpoint().map_or_else(remote_failure, |found| Reply::ObjectsEndpoint(found.into()))
        }
        Request::FetchObjects(request) => {
            let fetched = connection.fetch_objects(request.into());
            fetched.map_or_else(remote_failure, |fetched| Reply::ObjectsFetched(fetched.into()))
        }
        Request::Take | Request::TakeObjects(_) | Request::Check(_) => not_mine(),
    }
}

/// Answers the requests of `client` without a remote, until there are no more.
pub(super) fn verify(session: &ConnectRequest, inlet: Inlet, client: &mut dyn Client) {
    let replies = client.replies();
    let mut verifier = match Verifier::new(&session.errand) {
        Ok(verifier) => verifier,
        Err(error) => return replies.send(remote_failure(error)),
    };
    let mut inlet = Some(inlet);
    while let Some(received) = client.next() {
        replies.send(match received {
            Request::Take => take(&mut inlet, |inlet| verifier.take(inlet).map(|()| Reply::Taken)),
            Request::TakeObjects(wanted) => {
                take(&mut inlet, |inlet| verifier.take_objects(inlet, &wanted).map(Reply::TakenObjects))
            }
            Request::Missing(request) => missing(session, &request),
            Request::Check(fetch) => {
                verifier.check(&fetch).map_or_else(remote_failure, |narrow| Reply::Checked { narrow })
            }
            Request::CheckSignature(request) => check_signature(session, &request),
            Request::WriteTree(request) => write_tree(session, &request),
            Request::Compact => compact(session),
            Request::Resolve(_)
            | Request::Prove(_)
            | Request::Tag(_)
            | Request::Fetch(_)
            | Request::ObjectsEndpoint
            | Request::FetchObjects(_) => not_mine(),
        });
    }
}

/// Takes the objects of one fetch. After a failure the stream is closed, so that the receiver ends, too.
fn take(inlet: &mut Option<Inlet>, keep: impl FnOnce(&mut Inlet) -> Result<Reply, RemoteError>) -> Reply {
    let Some(mut open) = inlet.take() else {
        return Reply::Failed(RequestError::Internal(Cause::new("the stream of objects is closed")));
    };
    match keep(&mut open) {
        Ok(taken) => {
            *inlet = Some(open);
            taken
        }
        Err(error) => remote_failure(error),
    }
}

fn not_mine() -> Reply {
    Reply::Failed(RequestError::Internal(Cause::new("this request is for another process")))
}

/// Copies the store's repository. Nothing is asked of the remote.
fn compact(session: &ConnectRequest) -> Reply {
    let (Some(staging), Some(base)) = (&session.errand.staging, &session.errand.base) else {
        return Reply::Failed(RequestError::Internal(Cause::new("compaction needs a repository and a directory")));
    };
    let copied = remote::compact(&staging.join(REPOSITORY), base, &session.watch.cancel);
    copied.map_or_else(remote_failure, Reply::Compacted)
}

/// Finds out which objects of Git LFS a tree lacks.
fn missing(session: &ConnectRequest, request: &TreeRequest) -> Reply {
    let Some(staging) = &session.errand.staging else {
        return Reply::Failed(RequestError::Internal(Cause::new("a tree needs a staging directory")));
    };
    match snapshot::lfs::missing(&repository(session, staging), request, &session.watch) {
        Ok(missing) => Reply::Missing(missing),
        Err(error) => Reply::Failed(RequestError::Snapshot(error)),
    }
}

/// Lists the tree from the fetched objects, or from the store's repository if nothing was fetched.
fn write_tree(session: &ConnectRequest, request: &TreeRequest) -> Reply {
    let Some(staging) = &session.errand.staging else {
        return Reply::Failed(RequestError::Internal(Cause::new("a tree needs a staging directory")));
    };
    let repository = &repository(session, staging);
    // Converted files need a repository that can be written to, which the store's is not.
    let mut writable = || {
        let fetched = staging.join(REPOSITORY);
        if *repository != fetched {
            let made = Verifier::new(&session.errand).and_then(|mut verifier| verifier.repository().map(drop));
            made.map_err(|error| SnapshotError::Io {
                action: "make".to_owned(),
                path: REPOSITORY.to_owned(),
                kind: error.kind(),
                source: Cause::new(chain(&error)),
            })?;
        }
        Ok(fetched)
    };
    let tree = staging.join(TREE);
    if let Err(error) = std::fs::create_dir(&tree) {
        return Reply::Failed(RequestError::Internal(Cause::new(format_args!("cannot make {TREE}: {error}"))));
    }
    match snapshot::list(repository, &mut writable, request, &tree, &session.watch) {
        Ok(summary) => Reply::Written(summary),
        Err(error) => Reply::Failed(RequestError::Snapshot(error)),
    }
}

/// Checks a commit of the fetched objects, or of the store's repository if nothing was fetched.
fn check_signature(session: &ConnectRequest, request: &SignatureRequest) -> Reply {
    let repository = session.errand.staging.as_ref().map(|staging| repository(session, staging));
    match signature::check(repository.as_deref(), request) {
        Ok(signer) => Reply::Signed(signer),
        Err(error) => Reply::Failed(RequestError::Signature(error)),
    }
}

/// Where the objects are.
fn repository(session: &ConnectRequest, staging: &Path) -> PathBuf {
    let fetched = staging.join(REPOSITORY);
    match &session.errand.base {
        // Until something is fetched, it is at most an empty directory.
        Some(base) if !fetched.join("objects").exists() => base.clone(),
        _ => fetched,
    }
}

fn remote_failure(error: RemoteError) -> Reply {
    Reply::Failed(RequestError::Remote(error))
}

/// Sends progress as replies: the first step of each kind, then at most every 50 ms.
///
/// A remote may report every chunk of a pack, which would be thousands of lines a second.
pub(super) struct Reported {
    replies: Arc<dyn Replies>,
    last: Mutex<Option<(std::mem::Discriminant<Step>, Instant)>>,
}

impl Reported {
    const INTERVAL: Duration = Duration::from_millis(50);

    pub(super) fn new(replies: Arc<dyn Replies>) -> Self {
        Self { replies, last: Mutex::new(None) }
    }
}

impl Progress for Reported {
    fn report(&self, step: &Step) {
        let kind = std::mem::discriminant(step);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|(same, then)| same == kind && now.duration_since(then) < Self::INTERVAL) {
            return;
        }
        *last = Some((kind, now));
        self.replies.send(Reply::Progress(step.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Reply>>);

    impl Replies for Kept {
        fn send(&self, reply: Reply) {
            self.0.lock().unwrap().push(reply);
        }
    }

    #[test]
    fn progress_is_thinned_but_no_kind_of_step_is_lost() {
        let kept = Arc::new(Kept::default());
        let reported = Reported::new(kept.clone());
        for bytes in 0..1000 {
            reported.report(&Step::Fetching { bytes, objects: 0, total_objects: 0 });
        }
        reported.report(&Step::Syncing);
        let kept = kept.0.lock().unwrap();
        assert!(kept.len() < 1000);
        assert!(matches!(kept[0], Reply::Progress(Step::Fetching { bytes: 0, .. })));
        assert!(matches!(kept[kept.len() - 1], Reply::Progress(Step::Syncing)));
    }
}
