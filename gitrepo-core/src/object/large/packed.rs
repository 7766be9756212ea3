//! Blobs in packs (gitformat-pack(5)).

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::bufread::ZlibDecoder;
use git2::Oid;

use super::CHUNK;
use super::Content;
use super::if_found;

/// The beginning of an index of any version but the first.
const MAGIC: [u8; 4] = [0xff, b't', b'O', b'c'];

/// The length of the first table, which has the number of ids up to each first byte.
const FANOUT: u64 = 256 * 4;

/// The bit of a short offset that says that it is the number of a long one.
const LONG: u32 = 1 << 31;

/// The type of a blob that is not a delta.
const BLOB: u8 = 3;

/// Opens the blob `id` in a directory of packs; `None` if it is in none of them, or a delta.
pub(super) fn open(packs: &Path, id: Oid) -> io::Result<Option<Content>> {
    for path in indexes(packs)? {
        let Some(index) = if_found(File::open(&path))? else { continue };
        if let Some(offset) = Index::read(index)?.find(id)?
            && let Some(pack) = if_found(File::open(path.with_extension("pack")))?
            && let Some(content) = begin(pack, offset)?
        {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

fn indexes(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in if_found(fs::read_dir(directory))?.into_iter().flatten() {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("idx")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The index of a pack, of version 1 or 2.
struct Index {
    file: File,
    is_of_version_1: bool,
}

impl Index {
    fn read(file: File) -> io::Result<Self> {
        let mut start = [0; 8];
        file.read_exact_at(&mut start, 0)?;
        let is_of_version_1 = !start.starts_with(&MAGIC);
        if !is_of_version_1 && start[4..] != [0, 0, 0, 2] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the index of a pack is of an unknown version"));
        }
        Ok(Self { file, is_of_version_1 })
    }

    /// The offset of an object in the pack.
    fn find(&self, id: Oid) -> io::Result<Option<u64>> {
        let wanted = id.as_bytes();
        let first = u64::from(wanted[0]);
        let mut low = if first == 0 { 0 } else { self.ids_up_to(first - 1)? };
        let mut high = self.ids_up_to(first)?;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.id(middle)?.as_slice().cmp(wanted) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return self.offset(middle).map(Some),
            }
        }
        Ok(None)
    }

    fn ids_up_to(&self, first_byte: u64) -> io::Result<u64> {
        let before = if self.is_of_version_1 { 0 } else { 8 };
        self.number(before + first_byte * 4).map(u64::from)
    }

    fn id(&self, position: u64) -> io::Result<[u8; 20]> {
        let mut id = [0; 20];
        // In version 1, the offset comes before its id.
        let at = if self.is_of_version_1 { FANOUT + position * 24 + 4 } else { 8 + FANOUT + position * 20 };
        self.file.read_exact_at(&mut id, at)?;
        Ok(id)
    }

    fn offset(&self, position: u64) -> io::Result<u64> {
        if self.is_of_version_1 {
            return self.number(FANOUT + position * 24).map(u64::from);
        }
        let count = self.ids_up_to(255)?;
        // Checksums come between.
        let short_offsets = 8 + FANOUT + count * (20 + 4);
        let short = self.number(short_offsets + position * 4)?;
        if short & LONG == 0 {
            return Ok(short.into());
        }
        let mut long = [0; 8];
        self.file.read_exact_at(&mut long, short_offsets + count * 4 + u64::from(short & !LONG) * 8)?;
        Ok(u64::from_be_bytes(long))
    }

    fn number(&self, at: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(u32::from_be_bytes(bytes))
    }
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
    use crate::object::fixture;

    fn blobs() -> Vec<Vec<u8>> {
        (0..50_u8).map(|byte| vec![byte; usize::from(byte) * 1000]).collect()
    }

    /// A pack of these blobs.
    fn pack(place: &Path, blobs: &[Vec<u8>]) -> (git2::Buf, Vec<Oid>) {
        let source = git2::Repository::init_bare(place.join("source")).unwrap();
        let mut builder = source.packbuilder().unwrap();
        let ids: Vec<_> = blobs.iter().map(|blob| source.blob(blob).unwrap()).collect();
        for id in &ids {
            builder.insert_object(*id, None).unwrap();
        }
        let mut pack = git2::Buf::new();
        builder.write_buf(&mut pack).unwrap();
        (pack, ids)
    }

    /// The directory of packs of a new repository with this one.
    fn indexed(place: &Path, pack: &[u8]) -> PathBuf {
        let there = git2::Repository::init_bare(place.join("there")).unwrap();
        let odb = there.odb().unwrap();
        let mut writer = odb.packwriter().unwrap();
        writer.write_all(pack).unwrap();
        writer.commit().unwrap();
        there.path().join("objects/pack")
    }

    fn assert_found(packs: &Path, ids: &[Oid], blobs: &[Vec<u8>]) {
        for (id, blob) in ids.iter().zip(blobs) {
            let mut content = Vec::new();
            open(packs, *id).unwrap().expect("it is in the pack").read_to_end(&mut content).unwrap();
            assert!(content == *blob, "{id}");
        }
        assert!(open(packs, Oid::ZERO_SHA1).unwrap().is_none());
    }

    #[test]
    fn a_blob_is_read_out_of_its_pack() {
        let place = tempfile::tempdir().unwrap();
        let (pack, ids) = pack(place.path(), &blobs());
        let packs = indexed(place.path(), &pack);
        assert_found(&packs, &ids, &blobs());
        assert!(open(&place.path().join("source/objects/pack"), ids[0]).unwrap().is_none(), "it is loose there");
        assert!(open(&place.path().join("nowhere"), ids[0]).unwrap().is_none());
    }

    #[test]
    fn git_indexes_of_every_version_and_long_offsets_are_read() {
        if !fixture::has_git() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (pack, ids) = pack(place.path(), &blobs());
        for version in ["1", "2", "2,0x100"] {
            let packs = tempfile::tempdir().unwrap();
            fs::write(packs.path().join("pack-a.pack"), &*pack).unwrap();
            let version = format!("--index-version={version}");
            fixture::git(packs.path(), &["index-pack", &version, "pack-a.pack"], b"");
            assert_found(packs.path(), &ids, &blobs());
        }
        fs::write(place.path().join("a.idx"), b"\xfftOc\0\0\0\x03").unwrap();
        assert!(open(place.path(), ids[0]).is_err(), "a version to come");
    }

    #[test]
    fn a_delta_is_not_opened() {
        let place = tempfile::tempdir().unwrap();
        let noise: Vec<u8> =
            (0..10_000_u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
        let blobs = [noise.clone(), [&noise[..], b"more"].concat()];
        let (pack, ids) = pack(place.path(), &blobs);
        let packs = indexed(place.path(), &pack);
        let opened = ids.iter().filter(|id| open(&packs, **id).unwrap().is_some());
        assert_eq!(opened.count(), 1, "the other one is a delta");
    }
}
