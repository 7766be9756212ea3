//! A pack in transit: its progress, cancellation and limits.

use std::time::Duration;
use std::time::Instant;

use crate::progress::Step;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// Time between two progress reports.
const PACE: Duration = Duration::from_millis(100);

/// What one conversation has received.
pub(crate) struct Transfer<'a> {
    request: &'a ConnectRequest,
    /// Total of the packs before this one.
    earlier: Arrived,
    now: Arrived,
    /// Objects in this pack, as announced.
    total_objects: u64,
    /// When the remote last sent anything.
    heard: Instant,
    reported: Option<Instant>,
}

/// Totals received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    pub(crate) objects: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(request: &'a ConnectRequest) -> Self {
        Self {
            request,
            earlier: Arrived::default(),
            now: Arrived::default(),
            total_objects: 0,
            heard: Instant::now(),
            reported: None,
        }
    }

    /// The total received so far, over all packs.
    pub(crate) fn arrived(&self) -> Arrived {
        Arrived { bytes: self.earlier.bytes + self.now.bytes, objects: self.earlier.objects + self.now.objects }
    }

    /// A request is sent; the pack in response counts from zero.
    pub(crate) fn ask(&mut self) -> Result<(), RemoteError> {
        self.earlier = self.arrived();
        self.now = Arrived::default();
        self.total_objects = 0;
        self.heard = Instant::now();
        self.wanted()
    }

    /// The remote has sent something, even if only messages.
    pub(crate) fn hear(&mut self) -> Result<(), RemoteError> {
        self.heard = Instant::now();
        self.wanted()
    }

    /// Updates the progress of the pack.
    pub(crate) fn advance(&mut self, now: Arrived, total_objects: u64) -> Result<(), RemoteError> {
        self.now = now;
        self.total_objects = total_objects;
        self.hear()?;
        let arrived = self.arrived();
        let limit = self.request.errand.limits.fetch_bytes;
        if arrived.bytes > limit {
            return Err(RemoteError::TooLarge { url: self.request.errand.url.to_string(), limit });
        }
        if self.reported.is_none_or(|reported| reported.elapsed() >= PACE) {
            self.reported = Some(Instant::now());
            self.report();
        }
        Ok(())
    }

    /// Reports the progress of the pack, if one is in transit.
    pub(crate) fn report(&self) {
        if self.now == Arrived::default() {
            return;
        }
        let Arrived { bytes, objects } = self.arrived();
        let total_objects = self.earlier.objects + self.total_objects;
        self.request.watch.progress.report(&Step::Fetching { bytes, objects, total_objects });
    }

    /// Whether the remote has been silent for too long. libgit2 does not always say so: within TLS, a timeout becomes
    /// "syscall failure".
    pub(crate) fn is_stalled(&self) -> bool {
        self.heard.elapsed() >= self.request.errand.limits.stall
    }

    fn wanted(&self) -> Result<(), RemoteError> {
        let url = &self.request.errand.url;
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: url.to_string(), source })
    }
}
