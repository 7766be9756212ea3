//! Blobs that have a file of their own.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use git2::Oid;

use super::CHUNK;
use super::Content;
use super::if_found;

/// Before the content: the type, the size in digits, and a NUL. The longest size has 20 digits.
const LONGEST_HEADER: usize = "blob 18446744073709551615\0".len();

/// Opens the blob `id` of a directory of objects; `None` if it has no file of git's usual format there.
pub(super) fn open(objects: &Path, id: Oid) -> io::Result<Option<Content>> {
    let name = id.to_string();
    let (directory, file) = name.split_at(2);
    let Some(file) = if_found(File::open(objects.join(directory).join(file)))? else { return Ok(None) };
    let mut content = ZlibDecoder::new(BufReader::with_capacity(CHUNK, file));
    let (mut header, mut byte) = (Vec::new(), [0]);
    while header.len() < LONGEST_HEADER && content.read(&mut byte)? > 0 && byte != [0] {
        header.push(byte[0]);
    }
    Ok(header.starts_with(b"blob ").then_some(content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_blob_is_read_out_of_its_file() {
        let place = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(place.path()).unwrap();
        let objects = place.path().join("objects");
        for blob in [&b""[..], b"content", b"\0\0", &[b'a'; 1_000_000]] {
            let id = repository.blob(blob).unwrap();
            let mut content = Vec::new();
            open(&objects, id).unwrap().expect("it is loose").read_to_end(&mut content).unwrap();
            assert!(content == blob, "{id}");
        }
        let tree = repository.treebuilder(None).unwrap().write().unwrap();
        assert!(open(&objects, tree).unwrap().is_none(), "not a blob");
        assert!(open(&objects, Oid::ZERO_SHA1).unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("00")).unwrap();
        fs::write(place.path().join("00").join("0".repeat(38)), "not compressed").unwrap();
        assert!(open(place.path(), Oid::ZERO_SHA1).is_err());
    }
}
