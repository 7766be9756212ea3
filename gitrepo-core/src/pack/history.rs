//! A pack without deltas that git can read, object by object: the commits, trees and tags of a fetch, and the pack of a
//! working repository.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::ObjectType;
use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::CHUNK;
use super::MOST_OBJECTS;
use super::PackError;
use super::content::Content;
use super::content::Draft;
use super::entry::Entry;
use super::index;
use super::index::Line;
use super::inflate::Inflater;
use super::input::Input;
use super::input::TRAILER;
use super::make_room;

/// Names of the pack and its index until they are complete.
pub(super) const PACK: &str = "tmp_pack";
const INDEX: &str = "tmp_idx";

/// Bytes read back at once. Most objects are smaller.
const BACK: usize = 4096;

/// A pack that is being written. It is removed unless it is finished.
pub(crate) struct History {
    directory: PathBuf,
    pack: BufWriter<File>,
    position: u64,
    /// Used again for each object: to make one takes longer than to deflate a small object.
    zlib: ZlibEncoder<Vec<u8>>,
    /// The checksum and the owner's number of each object, in the pack's order.
    objects: Vec<(u32, u32)>,
    is_finished: bool,
}

impl History {
    /// Begins a pack in `directory`.
    pub(crate) fn create(directory: &Path) -> Result<Self, PackError> {
        let begin = || {
            let file = File::options().read(true).write(true).create_new(true).open(directory.join(PACK))?;
            let mut pack = BufWriter::with_capacity(CHUNK, file);
            // The number of objects is written last.
            pack.write_all(b"PACK\0\0\0\x02\0\0\0\0")?;
            Ok(pack)
        };
        let (directory, pack) = (directory.to_owned(), begin().map_err(PackError::Disk)?);
        let zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        Ok(Self { directory, pack, position: 12, zlib, objects: Vec::new(), is_finished: false })
    }

    /// Adds an object. Returns the byte where it begins.
    pub(crate) fn add(&mut self, number: u32, kind: ObjectType, content: &Content) -> Result<u64, PackError> {
        self.add_seen(number, kind, content, &mut |_| ())
    }

    /// Adds an object. `seen` gets its content, which is read only once.
    pub(crate) fn add_seen(
        &mut self,
        number: u32,
        kind: ObjectType,
        content: &Content,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, PackError> {
        make_room(&mut self.objects, MOST_OBJECTS as usize)?;
        let offset = self.position;
        let mut to = Counted { to: &mut self.pack, length: 0, crc: flate2::Crc::new() };
        let zlib = &mut self.zlib;
        let written = to.write_all(&header(kind, content.len())).and_then(|()| {
            content.for_each_piece(|piece| {
                seen(piece);
                zlib.write_all(piece)?;
                to.write_all(zlib.get_ref())?;
                zlib.get_mut().clear();
                Ok(())
            })?;
            let mut rest = zlib.reset(Vec::new())?;
            to.write_all(&rest)?;
            rest.clear();
            *zlib.get_mut() = rest;
            Ok(())
        });
        written.map_err(PackError::Disk)?;
        self.objects.push((to.crc.sum(), number));
        self.position += to.length;
        Ok(offset)
    }

    /// Length of the pack so far, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.position
    }

    /// Writes everything to the file, so that it can be read there.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.pack.flush()
    }

    /// Completes the pack and its index, which makes git see it. `line` gives the id and the place of a number. Returns
    /// their name without an end; `None` if there is no object, and so no pack.
    pub(crate) fn finish(mut self, line: impl Fn(u32) -> (Oid, u64)) -> io::Result<Option<String>> {
        if self.objects.is_empty() {
            return Ok(None);
        }
        self.pack.flush()?;
        let trailer = sign(self.pack.get_ref(), self.objects.len())?;
        self.objects.sort_unstable_by_key(|(_, number)| line(*number));
        let lines = self.objects.iter().map(|(crc, number)| {
            let (id, offset) = line(*number);
            Line { id, crc: *crc, offset }
        });
        index::write(lines, trailer, File::create_new(self.directory.join(INDEX))?)?;
        let hash: String = trailer.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("pack-{hash}");
        let named = |end: &str| self.directory.join(format!("{name}.{end}"));
        fs::rename(self.directory.join(PACK), named("pack"))?;
        fs::rename(self.directory.join(INDEX), named("idx"))?;
        self.is_finished = true;
        Ok(Some(name))
    }
}

/// Reads an object of a pack of the history that is still written. `scratch` is a directory for a temporary file.
pub(super) fn read(pack: &File, offset: u64, inflater: &mut Inflater, scratch: &Path) -> Result<Content, PackError> {
    let mut input = Input::with_capacity(BACK, Back { pack, offset });
    let entry = Entry::read(&mut input, offset)?;
    let mut draft = Draft::new(entry.size, scratch).map_err(PackError::Disk)?;
    inflater.inflate(&mut input, (offset, entry.size), |piece| draft.write_all(piece).map_err(PackError::Disk))?;
    Ok(draft.finish())
}

/// Writes a pack of these commits, trees and tags into `directory`, with its index.
pub(crate) fn write_history(
    directory: &Path,
    objects: impl Iterator<Item = (Oid, ObjectType, Vec<u8>)>,
) -> Result<(), PackError> {
    let mut history = History::create(directory)?;
    let mut lines = Vec::new();
    for (number, (id, kind, content)) in (0..).zip(objects) {
        lines.push((id, history.add(number, kind, &content.into())?));
    }
    let line = |number: u32| lines.get(number as usize).copied().unwrap_or((Oid::ZERO_SHA1, 0));
    history.finish(line).map(drop).map_err(PackError::Disk)
}

impl Drop for History {
    fn drop(&mut self) {
        if !self.is_finished {
            for name in [PACK, INDEX] {
                drop(fs::remove_file(self.directory.join(name)));
            }
        }
    }
}

/// Writes the number of objects and the trailer.
fn sign(mut pack: &File, objects: usize) -> io::Result<[u8; TRAILER]> {
    let objects = u32::try_from(objects).map_err(io::Error::other)?;
    pack.write_all_at(&objects.to_be_bytes(), 8)?;
    pack.seek(SeekFrom::Start(0))?;
    let mut hash = Sha1::new();
    let mut piece = vec![0; CHUNK];
    loop {
        match pack.read(&mut piece)? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    let trailer: [u8; TRAILER] = hash.finalize().into();
    pack.write_all(&trailer)?;
    Ok(trailer)
}

/// The header of an object that is not a delta.
pub(crate) fn header(kind: ObjectType, size: u64) -> Vec<u8> {
    let kind = match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Tag => 4,
        _ => 3,
    };
    let mut bytes = vec![(kind << 4) | (size & 15) as u8];
    let mut rest = size >> 4;
    while rest > 0 {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes
}

struct Counted<W> {
    to: W,
    length: u64,
    crc: flate2::Crc,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.to.write(piece)?;
        self.crc.update(&piece[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads what was written.
struct Back<'a> {
    pack: &'a File,
    offset: u64,
}

impl Read for Back<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.pack.read_at(into, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}
