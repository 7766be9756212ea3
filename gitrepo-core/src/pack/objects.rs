//! Objects of Git LFS, from the process that downloads them to the process that keeps them.
//!
//! The receiver claims only a length. Whoever keeps the content hashes it: only what has the SHA-256 of a wanted object
//! counts. It is kept as a blob of a segment. What was begun and not completed takes room in the segment, and is in no index.
//!
//! | byte | what follows | meaning |
//! |---|---|---|
//! | `o` | its length | An object begins. |
//! | `+` | a length, so many bytes | A piece of it. |
//! | `=` | | It is complete. |
//! | `!` | | It is given up. |
//! | `.` | | There are no more. |
//!
//! Numbers have 8 bytes, big-endian.

use std::collections::HashSet;
use std::io::Write;

use git2::ObjectType;
use git2::Oid;
use sha2::Digest;
use sha2::Sha256;

use super::PackError;
use super::Places;
use super::hash::ObjectHash;
use super::stream::Inlet;
use super::stream::Outlet;
use crate::content::SegmentWriter;
use crate::lfs::Found;
use crate::lfs::Object;
use crate::lfs::ObjectId;

const BEGIN: u8 = b'o';
const PIECE: u8 = b'+';
const COMPLETE: u8 = b'=';
const GIVEN_UP: u8 = b'!';
const END: u8 = b'.';

impl Outlet {
    /// Begins an object of this length, in bytes.
    pub(crate) fn begin_object(&mut self, length: u64) -> Result<(), PackError> {
        self.send(&message(BEGIN, length))
    }

    /// Sends a piece of it.
    pub(crate) fn send_piece(&mut self, piece: &[u8]) -> Result<(), PackError> {
        self.send(&message(PIECE, piece.len() as u64))?;
        self.send(piece)
    }

    /// Ends the object, which is complete or given up.
    pub(crate) fn end_object(&mut self, is_complete: bool) -> Result<(), PackError> {
        self.send(&[if is_complete { COMPLETE } else { GIVEN_UP }])
    }

    /// Ends the stream of objects.
    pub(crate) fn end_objects(&mut self) -> Result<(), PackError> {
        self.send(&[END])
    }
}

fn message(command: u8, number: u64) -> [u8; 9] {
    let mut message = [command; 9];
    message[1..].copy_from_slice(&number.to_be_bytes());
    message
}

/// Keeps the wanted ones of the objects that come, in a segment of `places`. Returns those that are complete.
///
/// # Errors
///
/// [`PackError::HandOver`] if the stream ends early or does not make sense; [`PackError::Collision`]; and those of our own disk
/// and limits.
pub(crate) fn keep_objects(inlet: &mut Inlet, places: &Places, wanted: &[Object]) -> Result<Vec<Found>, PackError> {
    let wanted: HashSet<(ObjectId, u64)> = wanted.iter().map(|object| (object.id, object.size)).collect();
    let sizes = wanted.iter().map(|(_, size)| *size).collect();
    let segment = SegmentWriter::create(&places.segments).map_err(PackError::Disk)?;
    let mut keeping = Keeping { segment, limit: places.limit, sizes, found: Vec::new(), blobs: Vec::new() };
    loop {
        match inlet.command()? {
            BEGIN => keeping.take_in(inlet, &wanted)?,
            END => break,
            _ => return Err(nonsense("an unknown command")),
        }
    }
    let Keeping { segment, found, blobs, .. } = keeping;
    segment.finish(blobs.into_iter()).map_err(PackError::Disk)?;
    Ok(found)
}

/// A segment of objects.
struct Keeping {
    segment: SegmentWriter,
    limit: u64,
    /// The sizes of the wanted objects.
    sizes: HashSet<u64>,
    found: Vec<Found>,
    /// Each with its place and its length, in bytes.
    blobs: Vec<(Oid, u64, u64)>,
}

impl Keeping {
    fn take_in(&mut self, inlet: &mut Inlet, wanted: &HashSet<(ObjectId, u64)>) -> Result<(), PackError> {
        let size = inlet.number()?;
        if !self.sizes.contains(&size) {
            return Err(nonsense("an object of a length that nobody wants"));
        }
        if self.segment.position().saturating_add(size) > self.limit {
            return Err(PackError::TooLarge(self.limit));
        }
        let place = self.segment.begin().map_err(PackError::Disk)?;
        let (mut blob, mut hash, mut left) = (ObjectHash::new(ObjectType::Blob, size), Sha256::new(), size);
        loop {
            match inlet.command()? {
                PIECE => {
                    let length = inlet.number()?;
                    left = left.checked_sub(length).ok_or_else(|| nonsense("more than the length of an object"))?;
                    inlet.content(length, |piece| {
                        blob.update(piece);
                        hash.update(piece);
                        self.segment.write_all(piece).map_err(PackError::Disk)
                    })?;
                }
                COMPLETE if left == 0 => break,
                GIVEN_UP => return Ok(()),
                _ => return Err(nonsense("an object that does not end as it should")),
            }
        }
        let id = ObjectId::from_bytes(hash.finalize().into());
        if wanted.contains(&(id, size)) {
            let blob = blob.finish()?;
            self.blobs.push((blob, place, size));
            self.found.push(Found { id, size, blob });
        }
        Ok(())
    }
}

fn nonsense(what: &'static str) -> PackError {
    PackError::HandOver(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use super::*;
    use crate::content::Segments;
    use crate::lfs::Pointer;
    use crate::pack::pipes;

    fn object(content: &[u8]) -> Object {
        let id = ObjectId::from_bytes(Sha256::digest(content).into());
        Object::new(&Pointer { id, size: content.len() as u64 }, b"a file")
    }

    fn places(place: &Path, limit: u64) -> Places {
        std::fs::create_dir_all(place.join(crate::content::DIRECTORY)).unwrap();
        Places { segments: place.join(crate::content::DIRECTORY), packs: place.to_owned(), limit }
    }

    /// Keeps what `send` sends.
    fn keep(
        place: &Path,
        limit: u64,
        wanted: &[Object],
        send: impl FnOnce(&mut Outlet) -> Result<(), PackError>,
    ) -> Result<Vec<Found>, PackError> {
        let places = places(place, limit);
        let (mut outlet, mut inlet) = pipes(places.clone()).unwrap();
        std::thread::scope(|scope| {
            let kept = scope.spawn(move || keep_objects(&mut inlet, &places, wanted));
            send(&mut outlet).unwrap();
            drop(outlet);
            kept.join().unwrap()
        })
    }

    fn send(outlet: &mut Outlet, length: u64, pieces: &[&[u8]], is_complete: bool) -> Result<(), PackError> {
        outlet.begin_object(length)?;
        pieces.iter().try_for_each(|piece| outlet.send_piece(piece))?;
        outlet.end_object(is_complete)
    }

    fn read(place: &Path, blob: Oid) -> Option<Vec<u8>> {
        let segments = Segments::open(place).unwrap();
        let extent = segments.locate(&[blob]).unwrap()[0]?;
        let mut content = Vec::new();
        segments.read(extent).read_to_end(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn only_complete_objects_that_are_wanted_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let (one, two, empty) = (&b"content of one"[..], &b"content of two"[..], &b""[..]);
        let wanted = [object(one), object(two), object(empty)];
        let found = keep(place.path(), 1 << 20, &wanted, |outlet| {
            send(outlet, 14, &[b"content"], false)?;
            send(outlet, 14, &[b"content ", b"of six"], true)?;
            send(outlet, 14, &[b"content ", b"", b"of one"], true)?;
            send(outlet, 0, &[], true)?;
            outlet.end_objects()
        });
        let found = found.unwrap();
        assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [wanted[0].id, wanted[2].id]);
        for (found, content) in found.iter().zip([one, empty]) {
            assert_eq!(found.blob, Oid::hash_object(ObjectType::Blob, content).unwrap());
            assert_eq!(read(place.path(), found.blob).as_deref(), Some(content));
        }
        assert_eq!(read(place.path(), Oid::hash_object(ObjectType::Blob, b"content of six").unwrap()), None);
    }

    #[test]
    fn a_stream_of_nonsense_leaves_nothing() {
        let content = &b"content"[..];
        type Send = fn(&mut Outlet) -> Result<(), PackError>;
        let nonsense: [Send; 6] = [
            |_| Ok(()),
            |outlet| outlet.send(b"x"),
            |outlet| outlet.begin_object(8),
            |outlet| send(outlet, 7, &[b"content and more"], true),
            |outlet| send(outlet, 7, &[b"conten"], true),
            |outlet| {
                send(outlet, 7, &[b"content"], true)?;
                outlet.send(b"o\0\0")
            },
        ];
        for send in nonsense {
            let place = tempfile::tempdir().unwrap();
            let kept = keep(place.path(), 1 << 20, &[object(content)], send);
            assert!(matches!(kept, Err(PackError::HandOver(_))), "{kept:?}");
            assert_eq!(place.path().join(crate::content::DIRECTORY).read_dir().unwrap().count(), 0);
        }
        let place = tempfile::tempdir().unwrap();
        let kept = keep(place.path(), 6, &[object(content)], |outlet| outlet.begin_object(7));
        assert!(matches!(kept, Err(PackError::TooLarge(6))), "{kept:?}");
    }
}
