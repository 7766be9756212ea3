//! Takes a pack in: counted, limited, and taken apart as it arrives.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Odb;
use git2::OdbLookupFlags;
use git2::Oid;

use crate::content::Extent;
use crate::content::Segments;
use crate::pack;
use crate::pack::Content;
use crate::pack::Outlet;
use crate::pack::Outside;
use crate::pack::PackError;
use crate::progress::Step;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::remote::repository::Repository;
use crate::remote::repository::content_limit;
use crate::remote::repository::refusal;

/// Time between two progress reports.
const PACE: Duration = Duration::from_millis(100);

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

/// Reads a pack to its end and hands its objects over. A thin pack is completed from the objects of `repository`.
pub(in crate::remote) fn receive(
    pack: &mut dyn Read,
    repository: &Repository,
    outlet: &mut Outlet,
    request: &ConnectRequest,
) -> Result<Arrived, SinkError> {
    let repository = &repository.anew()?;
    let here = Here::of(repository)?;
    let meter = RefCell::new(Meter::new(request));
    let mut counted = Counted { pack, meter: &meter };
    let room = (repository.path(), content_limit(&request.errand));
    let handed_over = pack::ingest(&mut counted, outlet, room, &here, &mut |seen| meter.borrow_mut().see(seen));
    let mut meter = meter.into_inner();
    match handed_over {
        Ok(()) => {
            meter.report();
            Ok(meter.arrived)
        }
        Err(error) => Err(match (meter.refusal.take(), error) {
            (Some(refusal), _) => refusal.into(),
            (None, PackError::Stream(error)) => SinkError::Stream(error),
            (None, error) => {
                let errand = &request.errand;
                refusal(error, &errand.url.to_string(), repository.path(), errand.base.is_some()).into()
            }
        }),
    }
}

/// Counts a pack for its limits and its progress.
struct Meter<'a> {
    request: &'a ConnectRequest,
    arrived: Arrived,
    total_objects: u64,
    reported: Option<Instant>,
    /// Why the pack is not wanted any more.
    refusal: Option<RemoteError>,
}

impl<'a> Meter<'a> {
    fn new(request: &'a ConnectRequest) -> Self {
        Self { request, arrived: Arrived::default(), total_objects: 0, reported: None, refusal: None }
    }

    /// Counts objects. Returns whether the pack is still wanted.
    fn see(&mut self, seen: pack::Seen) -> bool {
        self.arrived.objects = seen.objects;
        self.total_objects = seen.total;
        self.is_wanted()
    }

    /// Checks whether the pack is still wanted, and reports its progress now and then.
    fn is_wanted(&mut self) -> bool {
        let url = || self.request.errand.url.to_string();
        let limit = self.request.errand.limits.fetch_bytes;
        if let Err(source) = self.request.watch.cancel.check() {
            self.refusal = Some(RemoteError::Interrupted { url: url(), source });
            return false;
        }
        if self.arrived.bytes > limit {
            self.refusal = Some(RemoteError::TooLarge { url: url(), limit });
            return false;
        }
        if self.reported.is_none_or(|reported| reported.elapsed() >= PACE) {
            self.reported = Some(Instant::now());
            self.report();
        }
        true
    }

    fn report(&self) {
        let Arrived { bytes, objects } = self.arrived;
        let total_objects = self.total_objects;
        self.request.watch.progress.report(&Step::Fetching { bytes, objects, total_objects });
    }
}

/// A pack whose bytes are counted.
struct Counted<'a, 'b> {
    pack: &'a mut dyn Read,
    meter: &'a RefCell<Meter<'b>>,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.pack.read(into)?;
        let mut meter = self.meter.borrow_mut();
        meter.arrived.bytes += length as u64;
        if meter.is_wanted() { Ok(length) } else { Err(io::Error::other("it is no longer wanted")) }
    }
}

/// The objects of the repository and its base.
struct Here<'a> {
    history: Odb<'a>,
    segments: Segments,
}

impl<'a> Here<'a> {
    fn of(repository: &'a Repository) -> Result<Self, RemoteError> {
        Ok(Self { history: repository.objects()?, segments: repository.segments()? })
    }
}

impl Outside for Here<'_> {
    fn blobs(&self, ids: &[Oid]) -> Result<Vec<Option<Content>>, PackError> {
        let found = self.segments.locate(ids).map_err(unreadable)?;
        let content = |extent: Option<Extent>| {
            let part = |extent: Extent| {
                let file = Arc::new(self.segments.file(extent).try_clone()?);
                Ok(Content::Part { file, offset: extent.offset, length: extent.length })
            };
            extent.map(part).transpose().map_err(PackError::Disk)
        };
        found.into_iter().map(content).collect()
    }

    fn history(&self, id: Oid) -> Result<Option<(ObjectType, Content)>, PackError> {
        // Otherwise libgit2 looks for new packs after each one that is missing.
        if !self.history.exists_ext(id, OdbLookupFlags::NO_REFRESH) {
            return Ok(None);
        }
        match self.history.read(id) {
            Ok(object) => Ok(Some((object.kind(), object.data().to_vec().into()))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.message())),
        }
    }
}

/// What is here cannot be read.
fn unreadable(error: impl std::fmt::Display) -> PackError {
    PackError::Disk(io::Error::other(error.to_string()))
}
