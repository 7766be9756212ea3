//! Both halves of a fetch in one process, and what a test says is here already.

use std::io::Read;
use std::thread;

use git2::ObjectType;
use git2::Oid;

use super::Content;
use super::Named;
#[cfg(test)]
use super::Outlet;
use super::Outside;
use super::PackError;
use super::Places;
use super::Seen;
use super::keep;
use super::pipes;
#[cfg(test)]
use super::stream;

/// Reads a pack, and keeps its objects in `places`.
pub(crate) fn ingest(
    source: &mut dyn Read,
    places: &Places,
    outside: &dyn Outside,
    go_on: &mut dyn FnMut(Seen) -> bool,
) -> Result<(), PackError> {
    let (mut outlet, mut inlet) = pipes(places.clone()).map_err(PackError::HandOver)?;
    thread::scope(|scope| {
        let keeper = scope.spawn(move || keep(&mut inlet, places, &mut Named::default()));
        let scratch = (places.segments.as_path(), places.limit);
        let ingested = super::ingest(source, &mut outlet, scratch, outside, go_on).and_then(|()| outlet.finish(&[]));
        drop(outlet);
        let kept = keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match ingested {
            // Why the other half ended.
            Err(PackError::HandOver(_)) => kept,
            Err(error) => Err(error),
            Ok(()) => kept,
        }
    })
}

/// Only blobs with these contents are here.
pub(crate) struct OnlyBlobs<'a>(pub(crate) &'a [&'a [u8]]);

impl Outside for OnlyBlobs<'_> {
    fn blobs(&self, ids: &[Oid]) -> Result<Vec<Option<Content>>, PackError> {
        let is = |id: Oid, blob: &[u8]| Oid::hash_object(ObjectType::Blob, blob).is_ok_and(|hashed| hashed == id);
        let find = |id: &Oid| self.0.iter().find(|blob| is(*id, blob)).map(|blob| blob.to_vec().into());
        Ok(ids.iter().map(find).collect())
    }

    fn history(&self, _: Oid) -> Result<Option<(ObjectType, Content)>, PackError> {
        Ok(None)
    }
}

/// Hands these packs over as somebody may who lies.
#[cfg(test)]
pub(crate) fn hand_over(
    outlet: &mut Outlet,
    packs: &[&[(ObjectType, Vec<u8>)]],
    boundary: &[Oid],
) -> Result<(), PackError> {
    for pack in packs {
        outlet.begin_pack()?;
        for (kind, content) in *pack {
            outlet.send(&stream::head(*kind, content.len() as u64))?;
            outlet.send(content)?;
        }
        outlet.end_pack()?;
    }
    outlet.finish(boundary)
}
