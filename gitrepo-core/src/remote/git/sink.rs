//! Takes a pack in: counted, limited, and indexed by libgit2 as it arrives.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use git2::ErrorClass;

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
pub(super) enum SinkError {
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
        self.request.watch.progress.report(&Step::Fetching { bytes, objects, total_objects: self.total_objects });
    }
}

/// Reads a pack to its end and keeps it in `repository`. A thin pack is completed from the objects there.
pub(super) fn receive(
    pack: &mut dyn Read,
    repository: &Repository,
    request: &ConnectRequest,
) -> Result<Arrived, SinkError> {
    let meter = Meter { request, arrived: Arrived::default(), total_objects: 0, reported: None, refusal: None };
    let url = meter.url();
    let mut header = [0; HEADER];
    pack.read_exact(&mut header).map_err(SinkError::Stream)?;
    let objects = u64::from(u32::from_be_bytes([header[8], header[9], header[10], header[11]]));
    if objects > PACK_OBJECTS as u64 {
        return Err(RemoteError::TooManyObjects { url, limit: PACK_OBJECTS as u64 }.into());
    }
    let meter = RefCell::new(Meter { total_objects: objects, ..meter });
    let failed = |error: &git2::Error| match meter.borrow_mut().refusal.take() {
        Some(refusal) => refusal,
        None => unusable(error, repository, &url),
    };
    let odb = repository.objects()?;
    let directory = repository.path().join("objects/pack");
    let mut indexer = git2::Indexer::new(Some(&odb), &directory, 0, false).map_err(|error| failed(&error))?;
    indexer.progress(|progress| {
        let mut meter = meter.borrow_mut();
        meter.arrived.objects = progress.received_objects() as u64;
        match meter.check() {
            Ok(()) => true,
            Err(error) => {
                meter.refusal = Some(error);
                false
            }
        }
    });
    let mut buffer = vec![0; CHUNK];
    buffer[..HEADER].copy_from_slice(&header);
    let mut length = HEADER;
    while length > 0 {
        {
            let mut meter = meter.borrow_mut();
            meter.arrived.bytes += length as u64;
            meter.check()?;
        }
        // An empty pack says that everything is here, and libgit2 would keep it as a file.
        if objects > 0 {
            indexer.write_all(&buffer[..length]).map_err(|error| {
                match error.get_ref().and_then(|e| e.downcast_ref()) {
                    Some(error) => failed(error),
                    None => RemoteError::Protocol { url: url.clone(), source: Cause::new(&error) },
                }
            })?;
        }
        length = pack.read(&mut buffer).map_err(SinkError::Stream)?;
    }
    if objects > 0 {
        indexer.commit().map_err(|error| failed(&error))?;
    } else {
        drop(indexer);
    }
    let meter = meter.borrow();
    meter.report();
    Ok(Arrived { objects, ..meter.arrived })
}

/// A failure of libgit2: of our disk or memory, or else because of what was sent.
fn unusable(error: &git2::Error, repository: &Repository, url: &str) -> RemoteError {
    match error.class() {
        ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::Odb => repository::unusable(repository.path(), error),
        ErrorClass::NoMemory => RemoteError::OutOfMemory { url: url.to_owned() },
        _ => RemoteError::Protocol { url: url.to_owned(), source: Cause::new(error.message()) },
    }
}
