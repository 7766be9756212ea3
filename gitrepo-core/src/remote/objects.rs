//! Fetches objects of Git LFS: asks a server where they are, downloads them, and hands them over.
//!
//! Whoever keeps them hashes them. They are hashed here too, so that one that is damaged is asked for once more.

use sha2::Digest;
use sha2::Sha256;

use super::ConnectRequest;
use super::RemoteError;
use super::repository::refusal;
use super::transport::Download;
use super::transport::ObjectServer;
use super::transport::Place;
use crate::cancel::Interrupted;
use crate::error::Cause;
use crate::lfs::Action;
use crate::lfs::Endpoint;
use crate::lfs::Object;
use crate::lfs::ObjectId;
use crate::lfs::Origin;
use crate::lfs::batch;
use crate::lfs::batch::Answered;
use crate::pack::Outlet;
use crate::pack::PackError;
use crate::progress::Step;

mod error;

pub use error::ObjectsError;
pub(super) use error::without_server;

/// How often an object is asked for again from the beginning, if what came is another one.
const MOST_REPEATS: usize = 1;

/// How often a download is resumed that ends early, as long as each time brings something.
const MOST_RESUMES: usize = 20;

/// Most redirects of a download within the origin.
const MOST_REDIRECTS: usize = 5;

/// Most bytes of the places of objects at other origins: they become one message.
const MOST_ELSEWHERE: usize = 384 << 10;

/// Bytes that are read at once.
const CHUNK: usize = 128 * 1024;

/// Which objects to fetch.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ObjectsRequest {
    /// The server to ask where the objects are.
    pub endpoint: Option<Endpoint>,
    /// The full name of the ref that led to the commit: some servers give out objects by that.
    pub reference: Option<String>,
    /// The objects to ask for.
    pub objects: Vec<Object>,
    /// Objects whose places are known already.
    pub actions: Vec<Action>,
}

impl ObjectsRequest {
    /// Objects of this server.
    pub(crate) fn of(endpoint: Endpoint, reference: Option<String>, objects: Vec<Object>) -> Self {
        Self { endpoint: Some(endpoint), reference, objects, actions: Vec::new() }
    }

    /// Objects at these places, which have one origin.
    pub(crate) fn at(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::default() }
    }
}

/// What was fetched.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ObjectsFetched {
    /// Bytes of content received.
    pub bytes: u64,
    /// Objects that are at other origins. If there are many, some are left out, as if they had not been asked for.
    pub elsewhere: Vec<Action>,
}

/// Fetches objects, and hands them over.
pub(super) fn fetch(
    request: &ConnectRequest,
    wanted: ObjectsRequest,
    outlet: &mut Outlet,
) -> Result<ObjectsFetched, RemoteError> {
    let total = (wanted.objects.len() + wanted.actions.len()) as u64;
    let server = ObjectServer::new(request);
    let mut fetch = Fetch { request, server, outlet, fetched: ObjectsFetched::default(), done: 0, total, elsewhere: 0 };
    let outcome = fetch.run(wanted);
    // What came whole is kept, whatever happened then.
    let ended = fetch.outlet.end_objects().map_err(|error| fetch.handed_over(error));
    outcome.and(ended).map(|()| fetch.fetched)
}

/// A fetch in progress.
struct Fetch<'a, 'b> {
    request: &'a ConnectRequest,
    server: ObjectServer<'a>,
    outlet: &'b mut Outlet,
    fetched: ObjectsFetched,
    /// Objects that were handed over.
    done: u64,
    total: u64,
    /// Bytes of [`ObjectsFetched::elsewhere`].
    elsewhere: usize,
}

impl Fetch<'_, '_> {
    fn run(&mut self, wanted: ObjectsRequest) -> Result<(), RemoteError> {
        let ObjectsRequest { endpoint, reference, objects, actions } = wanted;
        for action in actions {
            self.bring(action)?;
        }
        let (empty, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.size == 0);
        for object in empty {
            // There is nothing to ask for.
            self.hand_over_nothing(&object)?;
        }
        for some in objects.chunks(batch::MOST) {
            let Some(endpoint) = &endpoint else { return Err(without_server()) };
            if self.elsewhere >= MOST_ELSEWHERE {
                break;
            }
            let question = batch::question(some, reference.as_deref());
            let answer = self.server.batch(endpoint, &question)?;
            let answers = batch::read(&answer, some).map_err(|what| self.nonsense(&endpoint.url, what))?;
            for answered in answers {
                match answered {
                    Answered::At(action) => self.bring(action)?,
                    Answered::Refused { object, code, message } => {
                        let url = endpoint.url.clone();
                        return Err(ObjectsError::refused(url, &object, code, message).into());
                    }
                }
            }
        }
        Ok(())
    }

    /// Downloads an object, or notes that it is elsewhere.
    fn bring(&mut self, mut action: Action) -> Result<(), RemoteError> {
        for _ in 0..=MOST_REDIRECTS {
            let there = Origin::of(action.url.expose());
            if !there.is_some_and(|there| there.is(&Origin(self.request.errand.url.clone()))) {
                self.note_elsewhere(action);
                return Ok(());
            }
            match self.download(&action)? {
                None => return Ok(()),
                Some(next) => action = next,
            }
        }
        let source = Cause::new("it is redirected too often");
        Err(ObjectsError::refused(self.url(), &action.object, 508, source).into())
    }

    fn note_elsewhere(&mut self, action: Action) {
        // In base64, with its path, quotes and names.
        let headers: usize =
            action.headers.iter().map(|(name, value)| name.len() + value.expose().len() * 4 / 3 + 16).sum();
        let bytes = action.url.expose().len() * 4 / 3 + headers + 2 * action.object.path.len() + 256;
        if self.elsewhere < MOST_ELSEWHERE {
            self.elsewhere += bytes;
            self.fetched.elsewhere.push(action);
        }
    }

    /// Downloads an object. Returns where it is if the server redirects.
    fn download(&mut self, action: &Action) -> Result<Option<Action>, RemoteError> {
        for _ in 0..=MOST_REPEATS {
            self.outlet.begin_object(action.object.size).map_err(|error| self.handed_over(error))?;
            let outcome = self.receive(action);
            let is_whole = matches!(outcome, Ok(Received::Whole));
            self.outlet.end_object(is_whole).map_err(|error| self.handed_over(error))?;
            match outcome? {
                Received::Whole => {
                    self.done += 1;
                    self.report();
                    return Ok(None);
                }
                Received::Redirected(next) => return Ok(Some(next)),
                Received::Other => {}
            }
        }
        Err(ObjectsError::corrupt(self.url(), &action.object, "what the server sends has another SHA-256").into())
    }

    /// Receives the content of an object, over as many connections as it takes.
    fn receive(&mut self, action: &Action) -> Result<Received, RemoteError> {
        let Action { object, .. } = action;
        let mut content = Content { hash: Sha256::new(), length: 0 };
        let mut resumes = 0;
        while content.length < object.size || resumes == 0 {
            let before = content.length;
            let failure = match self.server.download(action, content.length)? {
                Download::Elsewhere(place) => return self.redirected(action, place),
                Download::From(start) => match self.receive_from(start, object, &mut content) {
                    Ok(()) => break,
                    Err(failure) => failure,
                },
            };
            resumes += 1;
            if !may_resume(&failure) {
                return Err(failure);
            }
            if content.length == before || resumes > MOST_RESUMES {
                return Err(ObjectsError::broken_off(object, content.length, failure).into());
            }
            tracing::debug!(object = %object.id, at = content.length, "resuming a download");
        }
        if content.length != object.size {
            let what = format!("the server sends {} bytes, and its pointer says {}", content.length, object.size);
            return Err(ObjectsError::corrupt(self.url(), object, what).into());
        }
        let found = ObjectId::from_bytes(content.hash.finalize().into());
        Ok(if found == object.id { Received::Whole } else { Received::Other })
    }

    /// Reads an answer that begins at byte `start` of the object to its end.
    fn receive_from(&mut self, start: u64, object: &Object, content: &mut Content) -> Result<(), RemoteError> {
        let url = self.url();
        // A server that knows no ranges sends everything again.
        let mut known = content.length - start;
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = self.server.read(&mut buffer)?;
            if length == 0 {
                return match content.length == object.size {
                    true => Ok(()),
                    false => {
                        let source = Cause::new("its answer ends early");
                        Err(RemoteError::Protocol { url, source })
                    }
                };
            }
            let again = usize::try_from(known).unwrap_or(usize::MAX).min(length);
            known -= again as u64;
            let piece = &buffer[again..length];
            if content.length + piece.len() as u64 > object.size {
                self.server.hang_up();
                let what = format!("the server sends more than the {} bytes of its pointer", object.size);
                return Err(ObjectsError::corrupt(url, object, what).into());
            }
            self.check_amount(piece.len() as u64)?;
            if !piece.is_empty() {
                content.hash.update(piece);
                self.outlet.send_piece(piece).map_err(|error| self.handed_over(error))?;
                content.length += piece.len() as u64;
            }
            self.report();
        }
    }

    fn check_amount(&mut self, more: u64) -> Result<(), RemoteError> {
        let limit = self.request.errand.limits.fetch_bytes;
        self.fetched.bytes = self.fetched.bytes.saturating_add(more);
        if self.fetched.bytes > limit {
            return Err(RemoteError::TooLarge { url: self.url(), limit });
        }
        let interrupted = |source: Interrupted| RemoteError::Interrupted { url: self.url(), source };
        self.request.watch.cancel.check().map_err(interrupted)
    }

    /// A redirect brings no header of the first place to the next one.
    fn redirected(&self, action: &Action, place: Place) -> Result<Received, RemoteError> {
        let there = Origin::of(place.url.expose());
        let Some(there) = there else {
            let source = Cause::new("it is redirected to a place that is no URL of https or http");
            return Err(ObjectsError::refused(self.url(), &action.object, 508, source).into());
        };
        let is_same = there.is(&Origin(self.request.errand.url.clone()));
        let headers = if is_same { action.headers.clone() } else { Vec::new() };
        Ok(Received::Redirected(Action::new(action.object.clone(), place.url, headers)))
    }

    fn hand_over_nothing(&mut self, object: &Object) -> Result<(), RemoteError> {
        if ObjectId::from_bytes(Sha256::digest(b"").into()) != object.id {
            return Err(ObjectsError::corrupt(self.url(), object, "its pointer says that it is empty").into());
        }
        let handed_over = self.outlet.begin_object(0).and_then(|()| self.outlet.end_object(true));
        handed_over.map_err(|error| self.handed_over(error))?;
        self.done += 1;
        Ok(())
    }

    fn report(&self) {
        let (bytes, objects, total_objects) = (self.fetched.bytes, self.done, self.total);
        self.request.watch.progress.report(&Step::Fetching { bytes, objects, total_objects });
    }

    fn nonsense(&self, url: &str, what: &str) -> RemoteError {
        ObjectsError::Protocol { url: url.to_owned(), source: Cause::new(what) }.into()
    }

    fn handed_over(&self, error: PackError) -> RemoteError {
        refusal(error, &self.url(), self.outlet.kept(), false)
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }
}

/// The content of an object so far.
struct Content {
    hash: Sha256,
    length: u64,
}

/// What came of a download.
enum Received {
    /// The object.
    Whole,
    /// Something else of the same length.
    Other,
    /// Where it is.
    Redirected(Action),
}

/// Whether a download may go on where it ended: its connection broke. A server that says something else means it.
fn may_resume(failure: &RemoteError) -> bool {
    matches!(failure, RemoteError::Unreachable { .. } | RemoteError::Protocol { .. })
}
