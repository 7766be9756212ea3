//! Blobs too large for memory, inflated piece by piece out of a pack.
//!
//! libgit2 reads an object whole. git does not make deltas of large files (`core.bigFileThreshold`, 512 MiB), so these
//! blobs stand in their pack as they are (gitformat-pack(5)).

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::bufread::ZlibDecoder;
use git2::Oid;

/// The beginning of an index of version 2.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];

/// Where the table of the first bytes of ids ends, in bytes.
const FANOUT_END: u64 = 8 + 256 * 4;

/// The bit of a short offset that says that it is the number of a long one.
const LONG: u32 = 1 << 31;

/// The type of a blob that is not a delta.
const BLOB: u8 = 3;

/// Bytes read from a pack at once.
const CHUNK: usize = 256 * 1024;

/// The content of a blob.
pub(crate) type Content = ZlibDecoder<BufReader<File>>;

/// Opens the blob `id` of a bare repository or of its alternates; `None` if it is not in a pack, or a delta.
pub(crate) fn open(repository: &Path, id: Oid) -> io::Result<Option<Content>> {
    let objects = repository.join("objects");
    for directory in alternates(&objects)?.into_iter().chain([objects]) {
        for index in indexes(&directory.join("pack"))? {
            if let Some(offset) = find(&File::open(&index)?, id)? {
                return begin(File::open(index.with_extension("pack"))?, offset);
            }
        }
    }
    Ok(None)
}

fn alternates(objects: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read(objects.join("info/alternates")) {
        Ok(text) => {
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            Ok(lines.map(|line| PathBuf::from(OsStr::from_bytes(line))).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn indexes(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("idx")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The offset of an object in the pack of this index.
fn find(index: &File, id: Oid) -> io::Result<Option<u64>> {
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0)?;
    if magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the index of a pack is not of version 2"));
    }
    let wanted = id.as_bytes();
    let first = u64::from(wanted[0]);
    let count = u64::from(number(index, FANOUT_END - 4)?);
    let mut low = if first == 0 { 0 } else { u64::from(number(index, 8 + (first - 1) * 4)?) };
    let mut high = u64::from(number(index, 8 + first * 4)?).min(count);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut name = [0; 20];
        index.read_exact_at(&mut name, FANOUT_END + middle * 20)?;
        match name.as_slice().cmp(wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return offset(index, count, middle).map(Some),
        }
    }
    Ok(None)
}

fn offset(index: &File, count: u64, position: u64) -> io::Result<u64> {
    let short_offsets = FANOUT_END + count * (20 + 4);
    let short = number(index, short_offsets + position * 4)?;
    if short & LONG == 0 {
        return Ok(short.into());
    }
    let mut long = [0; 8];
    index.read_exact_at(&mut long, short_offsets + count * 4 + u64::from(short & !LONG) * 8)?;
    Ok(u64::from_be_bytes(long))
}

fn number(index: &File, offset: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    index.read_exact_at(&mut bytes, offset)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Reads the header of an object: its type, and its size in a variable number of bytes.
fn begin(mut pack: File, offset: u64) -> io::Result<Option<Content>> {
    pack.seek(SeekFrom::Start(offset))?;
    let mut pack = BufReader::with_capacity(CHUNK, pack);
    let mut byte = [0];
    pack.read_exact(&mut byte)?;
    let kind = (byte[0] >> 4) & 7;
    while byte[0] & 0x80 != 0 {
        pack.read_exact(&mut byte)?;
    }
    Ok((kind == BLOB).then(|| ZlibDecoder::new(pack)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A bare repository with one pack of these blobs.
    fn packed(blobs: &[&[u8]]) -> (tempfile::TempDir, Vec<Oid>) {
        let place = tempfile::tempdir().unwrap();
        let source = git2::Repository::init_bare(place.path().join("source")).unwrap();
        let mut builder = source.packbuilder().unwrap();
        let ids: Vec<_> = blobs.iter().map(|blob| source.blob(blob).unwrap()).collect();
        for id in &ids {
            builder.insert_object(*id, None).unwrap();
        }
        let mut pack = git2::Buf::new();
        builder.write_buf(&mut pack).unwrap();
        let there = git2::Repository::init_bare(place.path().join("there")).unwrap();
        let odb = there.odb().unwrap();
        let mut writer = odb.packwriter().unwrap();
        writer.write_all(&pack).unwrap();
        writer.commit().unwrap();
        (place, ids)
    }

    fn content(repository: &Path, id: Oid) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        open(repository, id).unwrap()?.read_to_end(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn a_blob_is_read_out_of_its_pack() {
        let blobs: Vec<Vec<u8>> = (0..50_u8).map(|byte| vec![byte; usize::from(byte) * 1000]).collect();
        let blobs: Vec<_> = blobs.iter().map(Vec::as_slice).collect();
        let (place, ids) = packed(&blobs);
        let there = place.path().join("there");
        for (id, blob) in ids.iter().zip(&blobs) {
            assert_eq!(content(&there, *id).as_deref(), Some(*blob));
        }
        assert_eq!(content(&there, Oid::ZERO_SHA1), None);
        assert_eq!(content(&place.path().join("source"), ids[0]), None, "it is loose there");
    }

    #[test]
    fn a_blob_is_read_out_of_an_alternate() {
        let (place, ids) = packed(&[b"content"]);
        let upon = place.path().join("upon");
        drop(git2::Repository::init_bare(&upon).unwrap());
        let objects = place.path().join("there/objects");
        fs::write(upon.join("objects/info/alternates"), format!("{}\n", objects.display())).unwrap();
        assert_eq!(content(&upon, ids[0]).as_deref(), Some(&b"content"[..]));
    }
}
