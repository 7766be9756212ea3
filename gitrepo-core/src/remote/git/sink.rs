//! Takes a pack in: counted, limited, and indexed by libgit2 as it arrives.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use git2::ErrorClass;
use git2::Indexer;

use crate::error::Cause;
use crate::progress::Step;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::remote::repository;
use crate::remote::repository::Repository;
use crate::sys::git::PACK_OBJECTS;

/// Time between two progress reports.
const PACE: Duration = Duration::from_millis(100);

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// The bytes before the first object: "PACK", a version, and the number of objects (gitformat-pack(5)).
const HEADER: usize = 12;

/// What has arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::remote) struct Arrived {
    pub(in crate::remote) bytes: u64,
    pub(in crate::remote) objects: u64,
}

/// Why a pack could not be taken in.
pub(in crate::remote) enum SinkError {
    /// The stream failed.
    Stream(io::Error),
    /// Anything else.
    Remote(RemoteError),
}

impl From<RemoteError> for SinkError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

/// Counts a pack for its limits and its progress.
struct Meter<'a> {
    request: &'a ConnectRequest,
    arrived: Arrived,
    total_objects: u64,
    reported: Option<Instant>,
    /// Why libgit2 was told to stop.
    refusal: Option<RemoteError>,
}

impl Meter<'_> {
    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    /// Checks whether the pack is still wanted, and reports its progress now and then.
    fn check(&mut self) -> Result<(), RemoteError> {
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url(), source })?;
        let limit = self.request.errand.limits.fetch_bytes;
        if self.arrived.bytes > limit {
            return Err(RemoteError::TooLarge { url: self.url(), limit });
        }
        if self.reported.is_none_or(|reported| reported.elapsed() >= PACE) {
            self.reported = Some(Instant::now());
            self.report();
        }
        Ok(())
    }

    fn report(&self) {
        let Arrived { bytes, objects } = self.arrived;
        let total_objects = self.total_objects;
        self.request.watch.progress.report(&Step::Fetching { bytes, objects, total_objects });
    }
}

/// Takes a pack in, piece by piece. A thin pack is completed from the objects of the repository.
pub(in crate::remote) struct Sink<'a> {
    meter: Rc<RefCell<Meter<'a>>>,
    repository: &'a Repository,
    indexer: Indexer<'a>,
    header: Vec<u8>,
}

impl<'a> Sink<'a> {
    /// Takes a pack into `repository`. The pack is kept once it is [finished](Self::finish).
    pub(in crate::remote) fn new(
        repository: &'a Repository,
        objects: &git2::Odb<'a>,
        request: &'a ConnectRequest,
    ) -> Result<Self, RemoteError> {
        let meter = Meter { request, arrived: Arrived::default(), total_objects: 0, reported: None, refusal: None };
        let meter = Rc::new(RefCell::new(meter));
        let directory = repository.path().join("objects/pack");
        let indexer = Indexer::new(Some(objects), &directory, 0, false);
        let mut indexer = indexer.map_err(|error| repository::unusable(repository.path(), &error))?;
        let watched = Rc::clone(&meter);
        indexer.progress(move |progress| {
            let mut meter = watched.borrow_mut();
            meter.arrived.objects = progress.received_objects() as u64;
            match meter.check() {
                Ok(()) => true,
                Err(error) => {
                    meter.refusal = Some(error);
                    false
                }
            }
        });
        Ok(Self { meter, repository, indexer, header: Vec::with_capacity(HEADER) })
    }

    /// Takes the next piece.
    pub(in crate::remote) fn write(&mut self, piece: &[u8]) -> Result<(), RemoteError> {
        {
            let mut meter = self.meter.borrow_mut();
            meter.arrived.bytes += piece.len() as u64;
            meter.check()?;
        }
        let begun = piece.len().min(HEADER - self.header.len());
        let (start, rest) = piece.split_at(begun);
        self.header.extend_from_slice(start);
        if begun > 0 && self.header.len() == HEADER {
            if !self.header.starts_with(b"PACK") {
                let source = Cause::new("what it sends is not a pack");
                return Err(RemoteError::Protocol { url: self.meter.borrow().url(), source });
            }
            let objects = self.objects();
            if objects > PACK_OBJECTS as u64 {
                let url = self.meter.borrow().url();
                return Err(RemoteError::TooManyObjects { url, limit: PACK_OBJECTS as u64 });
            }
            self.meter.borrow_mut().total_objects = objects;
            let header = std::mem::take(&mut self.header);
            let outcome = if objects > 0 { self.index(&header) } else { Ok(()) };
            self.header = header;
            outcome?;
        }
        // An empty pack says that everything is here, and libgit2 would keep it as a file.
        if self.objects() > 0 { self.index(rest) } else { Ok(()) }
    }

    /// Keeps the pack.
    pub(in crate::remote) fn finish(self) -> Result<Arrived, RemoteError> {
        let objects = self.objects();
        let Self { meter, repository, indexer, header } = self;
        if header.len() < HEADER {
            let source = Cause::new("its pack ends before the first object");
            return Err(RemoteError::Protocol { url: meter.borrow().url(), source });
        }
        if objects > 0 {
            indexer.commit().map_err(|error| failure(&error, &meter, repository))?;
        }
        let meter = meter.borrow();
        meter.report();
        Ok(Arrived { objects, ..meter.arrived })
    }

    /// The number of objects that the pack announces; 0 before it does.
    fn objects(&self) -> u64 {
        self.header.get(8..HEADER).and_then(|count| count.try_into().ok()).map_or(0, u32::from_be_bytes).into()
    }

    fn index(&mut self, piece: &[u8]) -> Result<(), RemoteError> {
        self.indexer.write_all(piece).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<git2::Error>()) {
                Some(error) => failure(error, &self.meter, self.repository),
                None => RemoteError::Protocol { url: self.meter.borrow().url(), source: Cause::new(&error) },
            }
        })
    }
}

/// A failure of libgit2: because it was told to stop, of our disk or memory, or else because of what was sent.
fn failure(error: &git2::Error, meter: &RefCell<Meter<'_>>, repository: &Repository) -> RemoteError {
    let mut meter = meter.borrow_mut();
    if let Some(refusal) = meter.refusal.take() {
        return refusal;
    }
    match error.class() {
        ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::Odb => repository::unusable(repository.path(), error),
        ErrorClass::NoMemory => RemoteError::OutOfMemory { url: meter.url() },
        _ => RemoteError::Protocol { url: meter.url(), source: Cause::new(error.message()) },
    }
}

/// Reads a pack to its end and keeps it in `repository`.
pub(in crate::remote) fn receive(
    pack: &mut dyn Read,
    repository: &Repository,
    request: &ConnectRequest,
) -> Result<Arrived, SinkError> {
    let objects = repository.objects()?;
    let mut sink = Sink::new(repository, &objects, request)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match pack.read(&mut buffer).map_err(SinkError::Stream)? {
            0 => return Ok(sink.finish()?),
            length => sink.write(&buffer[..length])?,
        }
    }
}
