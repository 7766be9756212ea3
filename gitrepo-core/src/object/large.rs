//! Blobs too large for memory, inflated piece by piece.
//!
//! libgit2 reads an object whole. git does not make deltas of large files (`core.bigFileThreshold`, 512 MiB), so these
//! blobs are in a pack or a loose file as they are. A large blob that is a delta can only be read whole.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::bufread::ZlibDecoder;
use git2::Oid;

mod loose;
mod packed;

/// A blob larger than this is not held in memory if it can be streamed, in bytes.
pub(crate) const LARGE: u64 = 32 << 20;

/// How far alternates of alternates are followed, as by git.
const ALTERNATES_FOLLOWED: usize = 5;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// The content of a blob. If its file is cut short, it just ends early: the reader has to check its length.
pub(crate) type Content = ZlibDecoder<BufReader<File>>;

/// Opens the blob `id` in the directory `objects` of a repository or in its alternates; `None` if it is not there, or is
/// a delta.
pub(crate) fn open(objects: &Path, id: Oid) -> io::Result<Option<Content>> {
    for directory in with_alternates(objects)? {
        if let Some(content) = packed::open(&directory.join("pack"), id)? {
            return Ok(Some(content));
        }
        if let Some(content) = loose::open(&directory, id)? {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// The directory and those that its `info/alternates` leads to (gitrepository-layout(5)).
fn with_alternates(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![objects.to_owned()];
    let mut next = 0;
    for _ in 0..ALTERNATES_FOLLOWED {
        let level = found[next..].to_vec();
        next = found.len();
        for directory in level {
            for alternate in alternates(&directory)? {
                if !found.contains(&alternate) {
                    found.push(alternate);
                }
            }
        }
    }
    Ok(found)
}

/// The directories of objects that a repository's directory `objects` builds on.
pub(crate) fn alternates(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(text) = if_found(fs::read(objects.join("info/alternates")))? else { return Ok(Vec::new()) };
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let paths = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(paths.map(|path| objects.join(OsStr::from_bytes(path))).collect())
}

/// What is not there is looked for elsewhere: git may pack or remove a file at any time.
fn if_found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A bare repository with one loose blob.
    fn repository(path: &Path, blob: &[u8]) -> Oid {
        git2::Repository::init_bare(path).unwrap().blob(blob).unwrap()
    }

    fn content(repository: &Path, id: Oid) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        open(&repository.join("objects"), id).unwrap()?.read_to_end(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn a_blob_is_found_through_alternates_of_any_form() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let ids = ["a", "b", "c"].map(|name| repository(&at(name), name.as_bytes()));
        fs::write(at("a/objects/info/alternates"), "# a comment\n\n../../b/objects\r\n").unwrap();
        let (c, gone) = (at("c/objects"), at("gone/objects"));
        fs::write(at("b/objects/info/alternates"), format!("{}\n{}\n", gone.display(), c.display())).unwrap();
        // A circle.
        fs::write(at("c/objects/info/alternates"), "../../a/objects").unwrap();
        for (id, blob) in ids.iter().zip(["a", "b", "c"]) {
            assert_eq!(content(&at("a"), *id).as_deref(), Some(blob.as_bytes()));
        }
        assert_eq!(content(&at("a"), Oid::ZERO_SHA1), None);
    }
}
