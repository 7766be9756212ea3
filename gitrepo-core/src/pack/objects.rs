//! Objects of Git LFS, from the process that downloads them to the process that keeps them.
//!
//! The receiver claims only a length. Whoever keeps the content hashes it: only what has the SHA-256 of a wanted object
//! counts. It is kept as a blob of a segment, of which nothing else remains. A segment is completed after some 64 MiB, so
//! that a fetch that is ended, however that happens, leaves most of what it brought.
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
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use git2::ObjectType;
use sha2::Digest;
use sha2::Sha256;

use super::PackError;
use super::Places;
use super::hash::ObjectHash;
use super::stream::Inlet;
use super::stream::Outlet;
use crate::content;
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

/// A segment of so many bytes is completed, so that what is in it outlives this process.
const PORTION: u64 = 64 << 20;

/// A segment may become as large as this part of what came before it: objects of any size leave a bounded number.
const SHARE: u64 = 8;

/// Keeps the wanted ones of the objects that come, in segments of `places`. Passes those of each complete segment on to
/// `note`, and returns all of them.
///
/// If the stream ends early, what was complete before is kept and noted, too.
///
/// # Errors
///
/// [`PackError::HandOver`] if the stream ends early or does not make sense; [`PackError::Collision`]; and those of our own disk
/// and limits, and of `note`.
pub(crate) fn keep_objects(
    inlet: &mut Inlet,
    places: &Places,
    wanted: &[Object],
    note: impl FnMut(&[Found]) -> io::Result<()>,
) -> Result<Vec<ObjectId>, PackError> {
    keep_portions(inlet, places, wanted, PORTION, note)
}

fn keep_portions(
    inlet: &mut Inlet,
    places: &Places,
    wanted: &[Object],
    portion: u64,
    note: impl FnMut(&[Found]) -> io::Result<()>,
) -> Result<Vec<ObjectId>, PackError> {
    let mut keeping = Keeping::new(places, wanted, portion, note)?;
    let taken = keeping.take_all(inlet);
    match &taken {
        Ok(()) => keeping.complete()?,
        // The process that downloads was ended. Of what it had handed over, the hash says that it is right.
        Err(PackError::HandOver(error)) if error.kind() == io::ErrorKind::UnexpectedEof => keeping.complete()?,
        Err(_) => {}
    }
    taken.map(|()| keeping.kept)
}

/// Objects on their way into segments.
struct Keeping<'a, N> {
    places: &'a Places,
    wanted: HashSet<(ObjectId, u64)>,
    /// The sizes of the wanted objects.
    sizes: HashSet<u64>,
    portion: u64,
    note: N,
    /// `None` before its first object.
    segment: Option<SegmentWriter>,
    /// The objects of the segment, each with its place.
    draft: Vec<(Found, u64)>,
    /// Bytes of all segments before it, those of blobs included.
    before: u64,
    /// Bytes of those segments before it that have objects of this stream.
    taken: u64,
    /// The objects of these.
    kept: Vec<ObjectId>,
}

impl<'a, N: FnMut(&[Found]) -> io::Result<()>> Keeping<'a, N> {
    fn new(places: &'a Places, wanted: &[Object], portion: u64, note: N) -> Result<Self, PackError> {
        let before = bytes_in(&places.segments).map_err(PackError::Disk)?;
        let wanted: HashSet<_> = wanted.iter().map(|object| (object.id, object.size)).collect();
        let sizes = wanted.iter().map(|(_, size)| *size).collect();
        let (segment, draft, kept) = (None, Vec::new(), Vec::new());
        Ok(Self { places, wanted, sizes, portion, note, segment, draft, before, taken: 0, kept })
    }

    /// Takes objects in to the end of the stream.
    fn take_all(&mut self, inlet: &mut Inlet) -> Result<(), PackError> {
        loop {
            match inlet.command()? {
                BEGIN => self.take_in(inlet)?,
                END => return Ok(()),
                _ => return Err(nonsense("an unknown command")),
            }
            if self.position() >= self.portion.max(self.before / SHARE) {
                self.complete()?;
            }
        }
    }

    /// Bytes of the segment.
    fn position(&self) -> u64 {
        self.segment.as_ref().map_or(0, SegmentWriter::position)
    }

    /// Completes the segment, and then notes its objects. Without an object, nothing of it stays.
    fn complete(&mut self) -> Result<(), PackError> {
        let bytes = self.position().next_multiple_of(content::ALIGNMENT);
        let Some(segment) = self.segment.take() else { return Ok(()) };
        let draft = std::mem::take(&mut self.draft);
        let blobs = draft.iter().map(|(found, place)| (found.blob, *place, found.size));
        segment.finish(blobs).map_err(PackError::Disk)?;
        let found: Vec<_> = draft.into_iter().map(|(found, _)| found).collect();
        (self.note)(&found).map_err(PackError::Disk)?;
        self.kept.extend(found.into_iter().map(|found| found.id));
        (self.before, self.taken) = (self.before.saturating_add(bytes), self.taken.saturating_add(bytes));
        Ok(())
    }

    /// Takes an object in. One that is given up, or not wanted, leaves nothing.
    fn take_in(&mut self, inlet: &mut Inlet) -> Result<(), PackError> {
        let size = inlet.number()?;
        if !self.sizes.contains(&size) {
            return Err(nonsense("an object of a length that nobody wants"));
        }
        let there = self.taken.saturating_add(self.position());
        if there.saturating_add(size) > self.places.limit {
            return Err(PackError::TooLarge(self.places.limit));
        }
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => SegmentWriter::create(&self.places.segments).map_err(PackError::Disk)?,
        };
        let place = segment.begin().map_err(PackError::Disk)?;
        let mark = segment.mark();
        let received = self.receive(inlet, size, &mut segment);
        match received {
            Ok(Some(found)) => self.draft.push((found, place)),
            Ok(None) | Err(_) => segment.rewind(&mark).map_err(PackError::Disk)?,
        }
        self.segment = Some(segment);
        received.map(drop)
    }

    /// Writes an object to a segment. `None` if it is given up, or not wanted.
    fn receive(&self, inlet: &mut Inlet, size: u64, segment: &mut SegmentWriter) -> Result<Option<Found>, PackError> {
        let (mut blob, mut hash, mut left) = (ObjectHash::new(ObjectType::Blob, size), Sha256::new(), size);
        loop {
            match inlet.command()? {
                PIECE => {
                    let length = inlet.number()?;
                    left = left.checked_sub(length).ok_or_else(|| nonsense("more than the length of an object"))?;
                    inlet.content(length, |piece| {
                        blob.update(piece);
                        hash.update(piece);
                        segment.write_all(piece).map_err(PackError::Disk)
                    })?;
                }
                COMPLETE if left == 0 => break,
                GIVEN_UP => return Ok(None),
                _ => return Err(nonsense("an object that does not end as it should")),
            }
        }
        let id = ObjectId::from_bytes(hash.finalize().into());
        match self.wanted.contains(&(id, size)) {
            true => Ok(Some(Found { id, size, blob: blob.finish()? })),
            false => Ok(None),
        }
    }
}

/// Bytes of the complete segments in a directory.
fn bytes_in(segments: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(segments)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(content::CONTENT)) {
            bytes = bytes.saturating_add(path.metadata()?.len());
        }
    }
    Ok(bytes)
}

fn nonsense(what: &'static str) -> PackError {
    PackError::HandOver(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use git2::Oid;

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

    /// What became of a stream: the objects of each segment, and what the call returned.
    type Kept = (Vec<Vec<Found>>, Result<Vec<ObjectId>, PackError>);

    /// Keeps what `send` sends, in segments of so many bytes.
    fn keep(
        place: &Path,
        [limit, portion]: [u64; 2],
        wanted: &[Object],
        send: impl FnOnce(&mut Outlet) -> Result<(), PackError>,
    ) -> Kept {
        let places = places(place, limit);
        let (mut outlet, mut inlet) = pipes(places.clone()).unwrap();
        std::thread::scope(|scope| {
            let kept = scope.spawn(move || {
                let mut noted = Vec::new();
                let kept = keep_portions(&mut inlet, &places, wanted, portion, |found| {
                    // The segment must be there first.
                    let blobs: Vec<_> = found.iter().map(|found| found.blob).collect();
                    let repository = places.segments.parent().unwrap();
                    assert!(Segments::open(repository).unwrap().locate(&blobs).unwrap().iter().all(Option::is_some));
                    noted.push(found.to_vec());
                    Ok(())
                });
                (noted, kept)
            });
            // The other end may be gone already.
            send(&mut outlet).ok();
            drop(outlet);
            kept.join().unwrap()
        })
    }

    const ROOM: [u64; 2] = [1 << 20; 2];

    fn files(place: &Path) -> Vec<std::path::PathBuf> {
        let files = place.join(content::DIRECTORY).read_dir().unwrap();
        files.map(|entry| entry.unwrap().path()).collect()
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
        let (noted, kept) = keep(place.path(), ROOM, &wanted, |outlet| {
            send(outlet, 14, &[b"content"], false)?;
            send(outlet, 14, &[b"content ", b"of six"], true)?;
            send(outlet, 14, &[b"content ", b"", b"of one"], true)?;
            send(outlet, 0, &[], true)?;
            outlet.end_objects()
        });
        assert_eq!(kept.unwrap(), [wanted[0].id, wanted[2].id]);
        let [found] = &noted[..] else { panic!("{noted:?}") };
        for (found, content) in found.iter().zip([one, empty]) {
            assert_eq!(found.blob, Oid::hash_object(ObjectType::Blob, content).unwrap());
            assert_eq!(read(place.path(), found.blob).as_deref(), Some(content));
        }
        assert_eq!(read(place.path(), Oid::hash_object(ObjectType::Blob, b"content of six").unwrap()), None);
        // What was given up and what was rejected takes no room.
        let lengths = files(place.path()).into_iter().filter(|path| path.extension() == Some(OsStr::new("content")));
        assert_eq!(lengths.map(|path| path.metadata().unwrap().len()).collect::<Vec<_>>(), [512]);
    }

    #[test]
    fn what_was_complete_when_the_stream_broke_off_is_kept() {
        let contents: Vec<Vec<u8>> = (1..=5).map(|number| vec![number; 3000]).collect();
        let wanted: Vec<_> = contents.iter().map(|content| object(content)).collect();
        let place = tempfile::tempdir().unwrap();
        // Two objects fill a segment.
        let (noted, kept) = keep(place.path(), [1 << 20, 6000], &wanted, |outlet| {
            contents[..3].iter().try_for_each(|content| send(outlet, 3000, &[content], true))?;
            outlet.begin_object(3000)?;
            outlet.send_piece(&contents[3][..2000])
        });
        assert!(matches!(&kept, Err(PackError::HandOver(_))), "{kept:?}");
        let noted: Vec<Vec<_>> = noted.iter().map(|found| found.iter().map(|found| found.id).collect()).collect();
        assert_eq!(noted, [vec![wanted[0].id, wanted[1].id], vec![wanted[2].id]]);
        let kept =
            contents.iter().map(|content| read(place.path(), Oid::hash_object(ObjectType::Blob, content).unwrap()));
        assert_eq!(kept.map(|found| found.is_some()).collect::<Vec<_>>(), [true, true, true, false, false]);
        assert_eq!(files(place.path()).len(), 4, "no draft is left");
    }

    #[test]
    fn the_number_of_segments_is_bounded_and_the_limit_counts_for_all_of_them() {
        const COUNT: u64 = 3000;
        let place = tempfile::tempdir().unwrap();
        let contents: Vec<_> = (0..COUNT).map(|number| number.to_be_bytes()).collect();
        let wanted: Vec<_> = contents.iter().map(|content| object(content)).collect();
        let send_all = |outlet: &mut Outlet| {
            contents.iter().try_for_each(|content| send(outlet, 8, &[content], true))?;
            outlet.end_objects()
        };
        let (noted, kept) = keep(place.path(), [COUNT * 512, 10 * 512], &wanted, send_all);
        assert_eq!(kept.unwrap().len(), wanted.len());
        // The first ones have 10 objects each. Then each adds an eighth.
        assert!((30..60).contains(&noted.len()), "{}", noted.len());
        let place = tempfile::tempdir().unwrap();
        let (_, kept) = keep(place.path(), [100 * 512, 10 * 512], &wanted, |outlet| {
            contents[..110].iter().try_for_each(|content| send(outlet, 8, &[content], true))
        });
        assert!(matches!(kept, Err(PackError::TooLarge(_))), "{kept:?}");
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
                outlet.send(b"o\x7f\0\0\0\0\0\0\0")
            },
        ];
        for send in nonsense {
            let place = tempfile::tempdir().unwrap();
            let (noted, kept) = keep(place.path(), ROOM, &[object(content)], send);
            assert!(matches!(kept, Err(PackError::HandOver(_))), "{kept:?}");
            assert!(noted.is_empty() && files(place.path()).is_empty(), "{noted:?}");
        }
        let place = tempfile::tempdir().unwrap();
        let (_, kept) = keep(place.path(), [6, 6], &[object(content)], |outlet| outlet.begin_object(7));
        assert!(matches!(kept, Err(PackError::TooLarge(6))), "{kept:?}");
    }
}
