//! How much to remove, and why.

use std::time::Duration;

use crate::store::Store;
use crate::store::clock::Moment;
use crate::store::error::StoreError;
use crate::store::last_use::LastUse;
use crate::store::removal::Pace;

/// How much to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// As little as possible until this many bytes are free on the store's filesystem.
    Until(u64),
    /// As little as possible until the store keeps to these bounds.
    Within(Bounds),
    /// Everything unused.
    Unreferenced,
}

/// The bounds of a store. Content in use counts, but is never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that stay free on the store's filesystem.
    pub free_bytes: u64,
    /// How many bytes snapshots and repositories may take, as [`Usage::total`](crate::store::Usage::total) counts them.
    /// If they take more, they are removed until they take a tenth less than this. But as many unused bytes as a fifth
    /// of this stay, whatever is in use: else one tenant's volumes would leave all others without a cache.
    pub max_bytes: u64,
    /// How long something unused is kept.
    pub max_age: Duration,
}

/// Why something unused is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was not used for [`Bounds::max_age`].
    Age,
    /// The store takes more than [`Bounds::max_bytes`].
    Size,
    /// Too little space is free on the filesystem.
    Space,
    /// Everything unused was to be removed.
    Request,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Age, Self::Size, Self::Space, Self::Request];

    /// Returns the name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Size => "size",
            Self::Space => "space",
            Self::Request => "request",
        }
    }

    /// How fast to delete for this reason.
    pub(super) fn pace(self, budget: Duration) -> Pace {
        match self {
            Self::Space | Self::Request => Pace::Full,
            Self::Age | Self::Size => Pace::within(budget),
        }
    }
}

/// What an eviction still has to achieve.
pub(super) struct Goal {
    eviction: Eviction,
    pub(super) now: Moment,
    /// Bytes that snapshots and repositories take, if they are to take fewer.
    taken: u64,
    /// Bytes that they may take when the eviction ends.
    enough: u64,
}

impl Goal {
    pub(super) fn of(eviction: Eviction, store: &Store) -> Result<Self, StoreError> {
        let (mut taken, mut enough) = (0, 0);
        if let Eviction::Within(Bounds { max_bytes, .. }) = eviction
            && max_bytes < u64::MAX
        {
            let total = store.usage()?.total;
            if total > max_bytes {
                let with_a_cache = store.bytes_in_use()?.saturating_add(max_bytes / 5);
                (taken, enough) = (total, (max_bytes - max_bytes / 10).max(with_a_cache));
            }
        }
        Ok(Self { eviction, now: Moment::now()?, taken, enough })
    }

    /// Why to remove the next victim, with this much free space. `used` is its last use; `None` if its age does not
    /// matter. `None` if enough was removed.
    pub(super) fn reason(&self, used: Option<LastUse>, free: u64) -> Option<Reason> {
        let Bounds { free_bytes, max_age, .. } = match self.eviction {
            Eviction::Unreferenced => return Some(Reason::Request),
            Eviction::Until(bytes) => return (free < bytes).then_some(Reason::Space),
            Eviction::Within(bounds) => bounds,
        };
        let age = used.and_then(|used| used.age(&self.now));
        if age.is_some_and(|age| age > max_age) {
            Some(Reason::Age)
        } else if free < free_bytes {
            Some(Reason::Space)
        } else {
            (self.taken > self.enough).then_some(Reason::Size)
        }
    }

    /// Whether nothing is to be removed, whatever there is: then nobody has to look for it.
    pub(super) fn is_reached(&self, free: u64) -> bool {
        let ages = matches!(self.eviction, Eviction::Within(Bounds { max_age, .. }) if max_age < Duration::MAX);
        !ages && self.reason(None, free).is_none()
    }

    /// Notes that this many bytes are gone.
    pub(super) fn freed(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_sub(bytes);
    }
}

impl Eviction {
    /// Bytes that are to be free.
    pub(super) fn free_bytes(&self) -> u64 {
        match self {
            Self::Until(bytes) | Self::Within(Bounds { free_bytes: bytes, .. }) => *bytes,
            Self::Unreferenced => u64::MAX,
        }
    }
}
