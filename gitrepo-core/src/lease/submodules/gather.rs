//! Gathers the parts of a composition: the superproject's, those of its submodules, of their submodules, and so on.
//!
//! Each part is fetched once, however many places it has. How many places there are, how deep they are and how much they
//! hold together is bounded before more is fetched, so no chain of repositories goes on for ever.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::num::NonZeroUsize;

use super::SubmoduleError;
use crate::lease::LeaseError;
use crate::policy::Limits;
use crate::snapshot::Composition;
use crate::snapshot::OpenPart;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_link_bytes;
use crate::snapshot::submodules;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::store::SnapshotPart;

/// How deep submodules may be in each other.
const DEEPEST: usize = 10;

/// A part that is needed.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Its first place, escaped.
    pub(crate) path: String,
    pub(crate) url: RepositoryUrl,
    pub(crate) commit: CommitId,
}

impl Wish {
    /// What a snapshot's metadata says of it.
    pub(super) fn to_part(&self) -> SnapshotPart {
        SnapshotPart { path: self.path.clone(), repository: self.url.clone(), commit: self.commit }
    }
}

/// Parts that were gathered so far.
pub(crate) struct Gathering<'a> {
    commit: CommitId,
    limits: &'a Limits,
    composition: Composition,
    /// The part of each wish.
    numbers: HashMap<(String, CommitId), usize>,
    /// What is gathered next, in the order of the parts' numbers.
    wishes: VecDeque<Wish>,
    /// All granted wishes; the number of each part is one more.
    granted: Vec<Wish>,
}

impl<'a> Gathering<'a> {
    /// Gathers the submodules of the tree `root` of a commit.
    ///
    /// # Errors
    ///
    /// [`SubmoduleError::Url`], and [`SnapshotError::TooLarge`] if the submodules exceed a limit.
    pub(crate) fn new(root: OpenPart, commit: CommitId, limits: &'a Limits) -> Result<Self, LeaseError> {
        let composition = Composition { parts: Vec::new(), places: Vec::new() };
        let numbers = HashMap::from([((root.repository.canonical(), commit), 0)]);
        let mut gathering = Self { commit, limits, composition, numbers, wishes: VecDeque::new(), granted: Vec::new() };
        gathering.add(root, "")?;
        gathering.check()?;
        Ok(gathering)
    }

    /// Returns the parts that are needed next, so many at most; none once all are there. They belong to
    /// [`Gathering::grant`], in this order. A few at a time: what they hold is known and counted only then.
    pub(crate) fn wishes(&mut self, most: NonZeroUsize) -> Vec<Wish> {
        self.wishes.drain(..most.get().min(self.wishes.len())).collect()
    }

    /// Adds the parts that were wished for.
    ///
    /// # Errors
    ///
    /// As for [`Gathering::new`].
    pub(crate) fn grant(&mut self, parts: Vec<(Wish, OpenPart)>) -> Result<(), LeaseError> {
        for (wish, part) in parts {
            self.add(part, &wish.path)?;
            self.granted.push(wish);
        }
        self.check()
    }

    /// Returns the repository of each part.
    pub(super) fn repositories(&self) -> Vec<RepositoryUrl> {
        self.composition.parts.iter().map(|part| part.repository.clone()).collect()
    }

    /// Returns the parts with their places, and the wish of each but the first.
    pub(crate) fn finish(self) -> (Composition, Vec<Wish>) {
        (self.composition, self.granted)
    }

    fn add(&mut self, part: OpenPart, path: &str) -> Result<(), LeaseError> {
        let mut places = Vec::new();
        for submodule in &part.submodules {
            let below = String::from_utf8_lossy(&submodule.path).escape_debug().to_string();
            let path = if path.is_empty() { below } else { format!("{path}/{below}") };
            let url = part.repository.submodule(&submodule.url).map_err(|source| SubmoduleError::Url {
                path: path.clone(),
                superproject: part.repository.to_string(),
                source,
            })?;
            let next = self.numbers.len();
            let number = *self.numbers.entry((url.canonical(), submodule.commit)).or_insert(next);
            if number == next {
                self.wishes.push_back(Wish { path, url, commit: submodule.commit });
            }
            places.push(number);
        }
        self.composition.parts.push(part);
        self.composition.places.push(places);
        Ok(())
    }

    /// Counts every place of every part, as far as they are known.
    fn check(&self) -> Result<(), LeaseError> {
        let mut total = Total::default();
        self.count(0, 0, &mut total)?;
        Ok(())
    }

    fn count(&self, number: usize, depth: usize, total: &mut Total) -> Result<(), SnapshotError> {
        let over = |count: u64, limit: u64, what: &str, setting: &str| match count > limit {
            true => Err(SnapshotError::too_large(self.commit, what, limit, setting)),
            false => Ok(()),
        };
        let most = submodules::MOST as u64;
        over(total.submodules, most, "submodules", "this version")?;
        over(depth as u64, DEEPEST as u64, "submodules in each other", "this version")?;
        let (Some(part), Some(places)) = (self.composition.parts.get(number), self.composition.places.get(number))
        else {
            return Ok(());
        };
        total.add(part);
        over(total.entries, self.limits.entries, "entries", "limits.entries")?;
        over(total.bytes, self.limits.tree_bytes, "bytes", "limits.treeBytes")?;
        check_link_bytes(self.commit, total.link_bytes)?;
        for &place in places {
            total.submodules += 1;
            self.count(place, depth + 1, total)?;
        }
        Ok(())
    }
}

/// What all places hold together.
#[derive(Default)]
struct Total {
    submodules: u64,
    entries: u64,
    bytes: u64,
    link_bytes: u64,
}

impl Total {
    fn add(&mut self, part: &OpenPart) {
        self.entries = self.entries.saturating_add(part.summary.entries());
        self.bytes = self.bytes.saturating_add(part.summary.bytes);
        self.link_bytes = self.link_bytes.saturating_add(part.link_bytes);
    }
}
