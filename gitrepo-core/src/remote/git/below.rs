//! Narrow fetches of servers that leave out what they are told to: version 2 with `filter`.
//!
//! Such a server gives out any object by its id, so the commit and the trees above the directory are asked for one by one.
//! Then one request brings the tree of the directory with everything below. If some of that may be here, two do: one
//! brings the trees, and one the blobs that are missing.

use std::io;
use std::io::Read;

use git2::ObjectType;
use git2::Oid;

use super::Server;
use super::ask::Share;
use super::ask::Wants;
use super::hello::Version;
use super::sink::Arrived;
use crate::error::chain;
use crate::pack;
use crate::pack::LONGEST_ABOVE;
use crate::pack::Outlet;
use crate::pack::PackError;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::narrow::Way;
use crate::remote::repository::Repository;
use crate::remote::repository::commit_id;
use crate::remote::repository::oid;
use crate::remote::repository::refusal;
use crate::spec::CommitId;
use crate::spec::RelativePath;

/// Most blobs that are wanted one by one. A request for more is longer than what a server saves by it, and some take none
/// of more than a megabyte.
const MOST_BLOBS: usize = 10_000;

impl Server<'_> {
    /// Fetches what is missing of one directory of the commit in `repository`, and hands it over. Returns `None` if this
    /// server does not do that: nothing was handed over then that a fetch of the whole commit does not bring, too.
    pub(super) fn bring_below(
        &mut self,
        request: &FetchRequest,
        directory: &RelativePath,
        repository: &Repository,
        outlet: &mut Outlet,
    ) -> Result<Option<Arrived>, RemoteError> {
        let hello = self.connect()?;
        if hello.version != Version::Two || !hello.capabilities.has_feature("fetch", "filter") {
            return Ok(None);
        }
        let mut arrived = Arrived::default();
        let way = self.way(request.resolved.commit, directory, repository, &mut arrived)?;
        let Some(way) = way else { return Ok(None) };
        if let Some(tree) = way.tree {
            self.bring_tree(tree, repository, outlet, &mut arrived)?;
        }
        for (kind, content) in &way.objects {
            let handed_over = outlet.hand_over_above(*kind, content);
            handed_over.map_err(|error| refusal(error, &self.url(), repository.path(), false))?;
        }
        Ok(Some(arrived))
    }

    /// Goes from the commit to the directory.
    fn way(
        &mut self,
        commit: CommitId,
        directory: &RelativePath,
        repository: &Repository,
        arrived: &mut Arrived,
    ) -> Result<Option<Way>, RemoteError> {
        let found = self.look_for((commit, commit, 1), |pack| {
            count(pack, arrived, |pack| {
                Ok(pack::find(pack, oid(commit))?.filter(|(kind, _)| *kind == ObjectType::Commit))
            })
        })?;
        // The fetch of the whole commit says what it is instead.
        let Some((_, commit)) = found else { return Ok(None) };
        let objects = repository.objects()?;
        let mut left = LONGEST_ABOVE.saturating_sub(commit.len() as u64);
        Way::find(commit, directory, |tree| {
            let content = match objects.read(tree) {
                Ok(object) if object.kind() == ObjectType::Tree => Some(object.data().to_vec()),
                _ => self.look_for((commit_id(tree), commit_id(tree), 0), |pack| {
                    count(pack, arrived, |pack| pack::find_tree(pack, tree, left))
                })?,
            };
            let content = content.filter(|content| content.len() as u64 <= left);
            left -= content.as_ref().map_or(0, |content| content.len() as u64);
            Ok(content)
        })
    }

    /// Brings a tree with everything below it.
    fn bring_tree(
        &mut self,
        tree: Oid,
        repository: &Repository,
        outlet: &mut Outlet,
        arrived: &mut Arrived,
    ) -> Result<(), RemoteError> {
        let everything = Wants { objects: vec![commit_id(tree)], ..Wants::default() };
        // That the tree is here does not say that its blobs are: they may have been refused after it.
        let mut is_here = repository.has(commit_id(tree))?;
        if !is_here && self.request.errand.base.is_some() {
            let trees = Wants { share: Share::Trees, ..everything.clone() };
            self.add(trees, repository, outlet, arrived)?;
            is_here = true;
        }
        let missing = if is_here { repository.anew()?.missing_blobs(tree)? } else { None };
        match missing {
            Some(missing) if missing.is_empty() => Ok(()),
            Some(missing) => {
                let objects = missing.into_iter().map(commit_id).collect();
                self.add(Wants { objects, ..everything }, repository, outlet, arrived)
            }
            None => self.add(everything, repository, outlet, arrived),
        }
    }

    /// Fetches, and counts what arrives.
    fn add(
        &mut self,
        wants: Wants,
        repository: &Repository,
        outlet: &mut Outlet,
        total: &mut Arrived,
    ) -> Result<(), RemoteError> {
        self.answered = false;
        let Arrived { bytes, objects } = self.fetch(wants, repository, outlet)?;
        *total = Arrived { bytes: total.bytes + bytes, objects: total.objects + objects };
        Ok(())
    }

    /// Makes nothing of the answer of a server that refuses a narrow fetch, be it in git's words, by a status of HTTP or by
    /// hanging up, so that the whole commit is fetched on a new connection. If something else is wrong, that fails, too.
    /// After a pack that broke off, there can be no other.
    pub(super) fn unless_refused<T>(
        &mut self,
        answer: Result<Option<T>, RemoteError>,
        outlet: &Outlet,
    ) -> Result<Option<T>, RemoteError> {
        match answer {
            Err(
                error @ (RemoteError::CommitNotFound { .. }
                | RemoteError::RepositoryNotFound { .. }
                | RemoteError::Forbidden { .. }
                | RemoteError::Unreachable { .. }
                | RemoteError::Protocol { .. }),
            ) if !outlet.is_broken() => {
                let (url, error) = (self.url(), chain(&error));
                tracing::info!(url, error, "a directory of a commit cannot be had alone; the whole commit is fetched");
                self.hello = None;
                Ok(None)
            }
            answer => answer,
        }
    }
}

/// Counts the bytes that are read of a pack with one object.
fn count<T>(
    pack: &mut dyn Read,
    arrived: &mut Arrived,
    read: impl FnOnce(&mut dyn Read) -> Result<T, PackError>,
) -> Result<T, PackError> {
    let mut counted = Counted { pack, bytes: 0 };
    let found = read(&mut counted);
    arrived.bytes += counted.bytes;
    arrived.objects += u64::from(found.is_ok());
    found
}

struct Counted<'a> {
    pack: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.pack.read(into)?;
        self.bytes += length as u64;
        Ok(length)
    }
}

impl Repository {
    /// The blobs below a tree that are not here; `None` if it is better to want all of them, or a tree is missing.
    fn missing_blobs(&self, tree: Oid) -> Result<Option<Vec<Oid>>, RemoteError> {
        let Ok((_, blobs)) = self.below(tree) else { return Ok(None) };
        let mut missing: Vec<Oid> = blobs.into_iter().collect();
        missing.sort_unstable();
        let (all, mut there) = (missing.len(), self.locate(&missing)?.into_iter());
        missing.retain(|_| there.next().flatten().is_none());
        // Servers keep differences between blobs. They send those only for a tree of which nothing is left out.
        let is_little = missing.len() <= MOST_BLOBS && missing.len() <= all / 2;
        Ok(is_little.then_some(missing))
    }
}
