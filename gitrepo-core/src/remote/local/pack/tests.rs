//! git as the judge of our packs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use git2::Repository;
use git2::Signature;
use git2::Time;

use super::*;
use crate::error::chain;
use crate::object::fixture;

/// A bare repository with a directory of its own.
struct Source {
    _place: tempfile::TempDir,
    git: Repository,
}

impl Source {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let git = Repository::init_bare(place.path().join("source")).unwrap();
        Self { _place: place, git }
    }

    fn objects(&self) -> PathBuf {
        self.git.path().join("objects")
    }

    /// Blobs of many sizes in a tree, with a commit and a tag.
    fn fill(&self) -> Vec<Oid> {
        let mut ids = Vec::new();
        let mut tree = self.git.treebuilder(None).unwrap();
        for size in [0, 1, 15, 16, 17, 2047, 2048, 262_143, 262_144, 1_000_003] {
            ids.push(self.git.blob(&noise(size)).unwrap());
            tree.insert(size.to_string(), ids[ids.len() - 1], 0o100_644).unwrap();
        }
        let tree = tree.write().unwrap();
        let author = Signature::new("A", "a@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        let tree = self.git.find_tree(tree).unwrap();
        let commit = self.git.commit(Some("refs/heads/main"), &author, &author, "m", &tree, &[]).unwrap();
        let target = self.git.find_object(commit, None).unwrap();
        let tag = self.git.tag_annotation_create("v1", &target, &author, "m").unwrap();
        ids.extend([tree.id(), commit, tag]);
        ids
    }

    /// The pack of these objects, read in pieces of this size.
    fn pack(&self, ids: &[Oid], piece: usize) -> Result<Vec<u8>, SourceError> {
        let (odb, directory, cancel) = (self.git.odb().unwrap(), self.objects(), Cancel::new());
        let mut pack = Pack::new(&odb, &directory, ids, &cancel);
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match pack.read(&mut buffer)? {
                0 => break,
                length => bytes.extend_from_slice(&buffer[..length]),
            }
        }
        assert_eq!(pack.read(&mut buffer).unwrap(), 0, "it has ended");
        Ok(bytes)
    }

    /// The file of a loose object.
    fn file(&self, id: Oid) -> PathBuf {
        let name = id.to_string();
        self.objects().join(&name[..2]).join(&name[2..])
    }

    /// Packs everything without deltas.
    fn repack(&self) {
        fixture::git(self.git.path(), &["repack", "-a", "-d", "-q", "--window=0"], b"");
        assert!(fs::read_dir(self.objects().join("pack")).unwrap().count() >= 2);
    }
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

/// More than [`LARGE`]. Compression does not look back as far as it repeats.
fn large_noise() -> Vec<u8> {
    noise(1_000_000).repeat(34)
}

/// Fails unless git indexes the pack, finds nothing wrong in it, and reads exactly these objects out of it.
fn assert_git_reads(pack: &[u8], ids: &[Oid]) {
    let place = tempfile::tempdir().unwrap();
    fixture::git(place.path(), &["init", "--quiet", "--bare"], b"");
    fixture::git(place.path(), &["index-pack", "--stdin", "--strict"], pack);
    fixture::git(place.path(), &["fsck", "--strict", "--full"], b"");
    let found = fixture::git(place.path(), &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"], b"");
    let found: BTreeSet<_> = found.lines().map(str::to_owned).collect();
    assert_eq!(found, ids.iter().map(Oid::to_string).collect());
}

#[test]
fn git_reads_a_pack_of_objects_of_every_type() {
    if !fixture::has_git() {
        return;
    }
    let source = Source::new();
    let ids = source.fill();
    let pack = source.pack(&ids, 64 * 1024).unwrap();
    assert_git_reads(&pack, &ids);
    for piece in [1, 13, 4096] {
        assert!(source.pack(&ids, piece).unwrap() == pack, "in pieces of {piece}");
    }
}

#[test]
fn git_reads_large_blobs_however_they_are_stored() {
    if !fixture::has_git() {
        return;
    }
    let source = Source::new();
    let size = usize::try_from(LARGE).unwrap();
    let blobs = [vec![b'a'; size], vec![b'b'; size + 1], large_noise()];
    let ids = blobs.map(|blob| source.git.blob(&blob).unwrap());
    assert_git_reads(&source.pack(&ids, 64 * 1024).unwrap(), &ids);
    for id in ids {
        source.git.reference(&format!("refs/tags/{id}"), id, true, "").unwrap();
    }
    source.repack();
    assert!(!source.file(ids[2]).exists(), "it is packed");
    assert_git_reads(&source.pack(&ids, 64 * 1024).unwrap(), &ids);
}

#[test]
fn a_pack_of_nothing_has_a_beginning_and_a_checksum() {
    let pack = Source::new().pack(&[], 64 * 1024).unwrap();
    assert_eq!(pack[..12], *b"PACK\0\0\0\x02\0\0\0\0");
    assert_eq!(pack[12..], *Sha1::digest(&pack[..12]));
}

#[test]
fn an_object_that_cannot_be_read_is_named() {
    let source = Source::new();
    let small = source.git.blob(b"content").unwrap();
    let large = source.git.blob(&large_noise()).unwrap();
    let error = source.pack(&[small, Oid::ZERO_SHA1], 4096).unwrap_err();
    assert!(matches!(error, SourceError::Object { id, .. } if id == Oid::ZERO_SHA1), "{}", chain(&error));

    let file = source.file(large);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &whole[..whole.len() - 1_000], &flipped] {
        // Replaced, since git's files are read-only.
        fs::remove_file(&file).unwrap();
        fs::write(&file, damaged).unwrap();
        let error = source.pack(&[small, large], 4096).unwrap_err();
        assert!(matches!(error, SourceError::Content { id, .. } if id == large), "{}", chain(&error));
        assert!(chain(&error).contains(&large.to_string()), "{}", chain(&error));
    }
}

#[test]
fn a_blob_that_is_longer_than_its_header_says_is_damaged() {
    let source = Source::new();
    let mut content = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    content.write_all(format!("blob {}\0", LARGE + 1).as_bytes()).unwrap();
    content.write_all(&vec![0; usize::try_from(LARGE).unwrap() + 2]).unwrap();
    let id = Oid::from_str(&"1".repeat(40)).unwrap();
    fs::create_dir_all(source.file(id).parent().unwrap()).unwrap();
    fs::write(source.file(id), content.finish().unwrap()).unwrap();
    let error = source.pack(&[id], 4096).unwrap_err();
    assert!(chain(&error).ends_with("it is not as long as it should be"), "{}", chain(&error));
}

#[test]
fn a_pack_that_is_given_up_ends() {
    let source = Source::new();
    let ids = source.fill();
    let cancel = Cancel::new();
    let (odb, directory) = (source.git.odb().unwrap(), source.objects());
    let mut pack = Pack::new(&odb, &directory, &ids, &cancel);
    assert!(pack.read(&mut [0; 20]).unwrap() > 0);
    cancel.cancel();
    let error = SourceError::from(pack.read(&mut [0; 20]).unwrap_err());
    assert!(matches!(error, SourceError::Interrupted(Interrupted::Cancelled)), "{error}");
}
