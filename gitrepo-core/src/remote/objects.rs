//! Fetches objects of Git LFS: asks a server where they are, downloads them, and hands them over.
//!
//! Whoever keeps them hashes them. They are hashed here too, so that one that is damaged is asked for once more.
//!
//! A place may be good for a short time. Once that is over, or the place refuses, the server is asked anew. Where only the
//! place can be reached, and not its server, the answer says so.

use serde::Deserialize;
use serde::Serialize;
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
    /// The objects that are here now, as whoever keeps them says.
    pub here: Vec<ObjectId>,
    /// Objects that are at other origins. If there are many, some are left out, as if they had not been asked for.
    pub elsewhere: Vec<Action>,
    /// Objects that their places do not give out, although their server said that they are there.
    pub refused: Vec<Refused>,
}

/// An object that its place does not give out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// The object.
    pub id: ObjectId,
    /// The status of the answer; `None` if the place was good for a time that is over.
    pub code: Option<u16>,
}

impl Refused {
    /// An object, and the status of the answer.
    pub fn new(id: ObjectId, code: Option<u16>) -> Self {
        Self { id, code }
    }
}

/// Fetches objects, and hands them over.
pub(super) fn fetch(
    request: &ConnectRequest,
    wanted: ObjectsRequest,
    outlet: &mut Outlet,
) -> Result<ObjectsFetched, RemoteError> {
    let total = (wanted.objects.len() + wanted.actions.len()) as u64;
    let ObjectsRequest { endpoint, reference, objects, actions } = wanted;
    let server = ObjectServer::new(request);
    let (fetched, asks) = (ObjectsFetched::default(), endpoint.map(|endpoint| Asks { endpoint, reference }));
    let mut fetch = Fetch { request, server, asks, outlet, fetched, done: 0, total, elsewhere: 0, longest: 0 };
    let outcome = fetch.run(objects, actions);
    // What came whole is kept, whatever happened then.
    let ended = fetch.outlet.end_objects().map_err(|error| fetch.handed_over(error));
    outcome.and(ended).map(|()| fetch.fetched)
}

/// Whom to ask where objects are.
struct Asks {
    endpoint: Endpoint,
    reference: Option<String>,
}

/// A fetch in progress.
struct Fetch<'a, 'b> {
    request: &'a ConnectRequest,
    server: ObjectServer<'a>,
    /// `None` where only places of objects can be reached.
    asks: Option<Asks>,
    outlet: &'b mut Outlet,
    fetched: ObjectsFetched,
    /// Objects that were handed over.
    done: u64,
    total: u64,
    /// Bytes of [`ObjectsFetched::elsewhere`], and of the longest of them.
    elsewhere: usize,
    longest: usize,
}

impl Fetch<'_, '_> {
    fn run(&mut self, objects: Vec<Object>, actions: Vec<Action>) -> Result<(), RemoteError> {
        for action in actions {
            self.bring(action)?;
        }
        let (empty, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.size == 0);
        for object in empty {
            // There is nothing to ask for.
            self.hand_over_nothing(&object)?;
        }
        let mut rest = &objects[..];
        while !rest.is_empty() {
            // Of places that do not fit, the server would be asked again.
            let fitting = (MOST_ELSEWHERE.saturating_sub(self.elsewhere)).checked_div(self.longest);
            let count = fitting.unwrap_or(batch::MOST).min(batch::MOST);
            if count < batch::MOST / 4 && self.elsewhere > 0 {
                break;
            }
            let (some, others) = rest.split_at(count.min(rest.len()));
            for action in self.ask(some)? {
                self.bring(action)?;
            }
            rest = others;
        }
        Ok(())
    }

    /// Asks where these objects are.
    fn ask(&mut self, objects: &[Object]) -> Result<Vec<Action>, RemoteError> {
        let Some(Asks { endpoint, reference }) = &self.asks else { return Err(without_server()) };
        let question = batch::question(objects, reference.as_deref());
        let answer = self.server.batch(endpoint, &question)?;
        let answers = batch::read(&answer, objects).map_err(|what| self.nonsense(&endpoint.url, what))?;
        let action = |answered| match answered {
            Answered::At(action) => Ok(action),
            Answered::Refused { object, code, message } => {
                Err(ObjectsError::refused(endpoint.url.clone(), &object, code, message).into())
            }
        };
        answers.into_iter().map(action).collect()
    }

    /// Downloads an object, or notes that it is elsewhere.
    fn bring(&mut self, action: Action) -> Result<(), RemoteError> {
        let mut action = if action.is_over() {
            let Some(anew) = self.ask_anew(&action.object)? else {
                self.note_refused(&action, None);
                return Ok(());
            };
            anew
        } else {
            action
        };
        for _ in 0..=MOST_REDIRECTS {
            if !self.is_here(&action) {
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

    /// Where an object is now; `None` if nobody can be asked.
    fn ask_anew(&mut self, object: &Object) -> Result<Option<Action>, RemoteError> {
        if self.asks.is_none() {
            return Ok(None);
        }
        tracing::debug!(object = %object.id, "asking anew where an object is");
        Ok(self.ask(std::slice::from_ref(object))?.pop())
    }

    /// Whether this process can reach a place.
    fn is_here(&self, action: &Action) -> bool {
        let there = Origin::of(action.url.expose());
        there.is_some_and(|there| there.is(&Origin(self.request.errand.url.clone())))
    }

    fn note_elsewhere(&mut self, action: Action) {
        if self.elsewhere < MOST_ELSEWHERE {
            let length = action.length();
            (self.elsewhere, self.longest) = (self.elsewhere + length, self.longest.max(length));
            self.fetched.elsewhere.push(action);
        }
    }

    fn note_refused(&mut self, action: &Action, code: Option<u16>) {
        self.fetched.refused.push(Refused::new(action.object.id, code));
    }

    /// Downloads an object. Returns where it is if the server redirects.
    fn download(&mut self, action: &Action) -> Result<Option<Action>, RemoteError> {
        for _ in 0..=MOST_REPEATS {
            self.outlet.begin_object(action.object.size).map_err(|error| self.handed_over(error))?;
            let outcome = self.receive(action.clone());
            let is_whole = matches!(outcome, Ok(Received::Whole));
            self.outlet.end_object(is_whole).map_err(|error| self.handed_over(error))?;
            match outcome? {
                Received::Whole => {
                    self.done += 1;
                    self.report();
                    return Ok(None);
                }
                Received::Elsewhere(next) => return Ok(Some(next)),
                Received::Refused => return Ok(None),
                Received::Other => {}
            }
        }
        Err(ObjectsError::corrupt(self.url(), &action.object, "what the server sends has another SHA-256").into())
    }

    /// Receives the content of an object, over as many connections as it takes.
    fn receive(&mut self, mut action: Action) -> Result<Received, RemoteError> {
        let object = action.object.clone();
        let mut content = Content { hash: Sha256::new(), length: 0 };
        let (mut resumes, mut was_refused) = (0, false);
        while content.length < object.size || resumes == 0 {
            let before = content.length;
            let failure = match self.server.download(&action, content.length) {
                Ok(Download::Elsewhere(place)) => return self.redirected(&action, place),
                Ok(Download::From(start)) => match self.receive_from(start, &object, &mut content) {
                    Ok(()) => break,
                    Err(failure) => failure,
                },
                Err(failure) => match refusal_of(&failure) {
                    Some(code) if !was_refused => {
                        was_refused = true;
                        match self.ask_anew(&object)? {
                            Some(anew) if self.is_here(&anew) => action = anew,
                            Some(anew) => return Ok(Received::Elsewhere(anew)),
                            None => {
                                self.note_refused(&action, Some(code).filter(|_| !action.is_over()));
                                return Ok(Received::Refused);
                            }
                        }
                        continue;
                    }
                    _ => failure,
                },
            };
            resumes += 1;
            if !may_resume(&failure) {
                return Err(failure);
            }
            if content.length == before || resumes > MOST_RESUMES {
                return Err(ObjectsError::broken_off(&object, content.length, failure).into());
            }
            tracing::debug!(object = %object.id, at = content.length, "resuming a download");
        }
        if content.length != object.size {
            let what = format!("the server sends {} bytes, and its pointer says {}", content.length, object.size);
            return Err(ObjectsError::corrupt(self.url(), &object, what).into());
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
        Ok(Received::Elsewhere(Action::new(action.object.clone(), place.url, headers)))
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
    /// Another place, where it is.
    Elsewhere(Action),
    /// Nothing, which was noted.
    Refused,
}

/// The status with which a place refuses an object that its server said to be there, as one does whose signature has
/// expired.
fn refusal_of(failure: &RemoteError) -> Option<u16> {
    match failure {
        RemoteError::Objects(ObjectsError::Refused { code: code @ (401 | 403), .. }) => Some(*code),
        _ => None,
    }
}

/// Whether a download may go on where it ended: its connection broke. A server that says something else means it.
fn may_resume(failure: &RemoteError) -> bool {
    matches!(failure, RemoteError::Unreachable { .. } | RemoteError::Protocol { .. })
}
