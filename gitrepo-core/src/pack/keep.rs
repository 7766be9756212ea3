//! Keeps a pack in a repository: written as it comes, completed with what it builds on, and indexed.

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
use super::PackError;
use super::content::Content;
use super::index;
use super::index::Line;
use super::input::Input;
use super::input::TRAILER;
use super::objects::Objects;

/// Objects that are here already, and that the deltas of a thin pack build on.
pub(crate) trait Outside {
    /// Whether the object is here.
    fn has(&self, id: Oid) -> bool;

    /// Reads an object, if it is here. `place` is a directory for the temporary file of a large one.
    fn read(&self, id: Oid, place: &Path) -> Result<Option<(ObjectType, Content)>, PackError>;
}

/// How much of a pack was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Objects that were read.
    pub(crate) objects: u64,
    /// Objects that the pack announces.
    pub(crate) total: u64,
}

/// Reads `source` to its end and keeps the pack in `directory`, unless it has no objects. `go_on` is told how far it is,
/// and ends it by `false`.
pub(crate) fn keep(
    source: &mut dyn Read,
    directory: &Path,
    outside: &dyn Outside,
    go_on: &mut dyn FnMut(Seen) -> bool,
) -> Result<u64, PackError> {
    let draft = Drafts { pack: directory.join("tmp_pack"), index: directory.join("tmp_idx") };
    let pack = File::options().read(true).write(true).create_new(true).open(&draft.pack).map_err(PackError::Disk)?;
    let mut input = Input::new(source, &pack);
    let total = total(&mut input)?;
    let mut objects = Objects::new(&pack, directory, outside);
    for number in 0..total {
        if !go_on(Seen { objects: number, total }) {
            return Err(PackError::Stopped);
        }
        objects.read(&mut input)?;
    }
    let end = input.position();
    let mut trailer = input.finish()?;
    let seen = Seen { objects: total, total };
    if !go_on(seen) {
        return Err(PackError::Stopped);
    }
    if total == 0 {
        return Ok(0);
    }
    objects.settle(|| go_on(seen))?;
    let additions = append(&objects, &pack, end)?;
    if !additions.is_empty() {
        trailer = sign(&pack, total + additions.len() as u64).map_err(PackError::Disk)?;
    }
    let lines = objects.into_lines(additions);
    draft.finish(directory, &lines, trailer).map_err(PackError::Disk)?;
    Ok(total)
}

/// Reads the beginning of a pack, and returns the number of its objects.
fn total<R: Read, W: Write>(input: &mut Input<R, W>) -> Result<u64, PackError> {
    if input.array::<4>()? != *b"PACK" {
        return Err(PackError::Damaged("it does not begin as one"));
    }
    match u32::from_be_bytes(input.array()?) {
        2 | 3 => {}
        _ => return Err(PackError::Damaged("it has an unknown version")),
    }
    match u32::from_be_bytes(input.array()?) {
        total if total > super::MOST_OBJECTS => Err(PackError::TooMany(total)),
        total => Ok(total.into()),
    }
}

/// Appends the objects that a thin pack builds on, so that it can be read without them, in place of its trailer.
fn append(objects: &Objects<'_>, mut pack: &File, end: u64) -> Result<Vec<Line>, PackError> {
    let mut additions = Vec::new();
    let mut offset = end;
    let borrowed = objects.borrowed();
    if !borrowed.is_empty() {
        pack.set_len(end).map_err(PackError::Disk)?;
    }
    for id in borrowed {
        let (kind, content) = objects.borrow(id)?;
        let written = (|| {
            pack.seek(SeekFrom::Start(offset))?;
            let mut to = Counted { to: BufWriter::new(pack), length: 0, crc: flate2::Crc::new() };
            to.write_all(&header(kind, content.len()))?;
            let mut zlib = ZlibEncoder::new(&mut to, Compression::fast());
            content.for_each_piece(|piece| zlib.write_all(piece))?;
            zlib.finish()?;
            to.to.flush()?;
            io::Result::Ok((to.length, to.crc.sum()))
        })();
        let (length, crc) = written.map_err(PackError::Disk)?;
        additions.push(Line { id, crc, offset });
        offset += length;
    }
    Ok(additions)
}

/// Writes the number of objects and the trailer of a pack again.
fn sign(mut pack: &File, objects: u64) -> io::Result<[u8; TRAILER]> {
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
fn header(kind: ObjectType, size: u64) -> Vec<u8> {
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

/// A pack and its index that are being written. They are removed unless they are finished.
struct Drafts {
    pack: PathBuf,
    index: PathBuf,
}

impl Drafts {
    /// Writes the index, and gives both their names: the index last, which makes git see the pack.
    fn finish(&self, directory: &Path, lines: &[Line], trailer: [u8; TRAILER]) -> io::Result<()> {
        index::write(lines, trailer, File::create_new(&self.index)?)?;
        let name: String = trailer.iter().map(|byte| format!("{byte:02x}")).collect();
        for (draft, extension) in [(&self.pack, "pack"), (&self.index, "idx")] {
            fs::rename(draft, directory.join(format!("pack-{name}.{extension}")))?;
        }
        Ok(())
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        for path in [&self.pack, &self.index] {
            // Neither is there once it has its name.
            drop(fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests;
