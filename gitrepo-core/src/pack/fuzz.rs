//! The property of packs, for fuzzing: the function panics on input that breaks it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use git2::ObjectType;
use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::Places;
use super::fake::OnlyBlobs;
use super::fake::ingest;
use crate::content;
use crate::content::Segments;

/// Objects, after the beginning of a pack and before its trailer: what is kept has its id, and what is refused leaves
/// nothing. The first four bytes are the number of objects. An
/// empty blob is here.
pub fn pack(objects: &[u8]) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let place = std::env::temp_dir().join(format!("gitrepo-pack-{}-{number}", std::process::id()));
    let mut bytes = [b"PACK\0\0\0\x02", objects].concat();
    let trailer = Sha1::digest(&bytes);
    bytes.extend_from_slice(&trailer);
    let kept = keep_in(&place, &bytes);
    remove(&place);
    if let Err(problem) = kept {
        panic!("{problem}");
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing is mounted in a directory that was just made")]
fn remove(place: &Path) {
    fs::remove_dir_all(place).ok();
}

fn keep_in(place: &Path, bytes: &[u8]) -> Result<(), String> {
    let said = |error: git2::Error| error.to_string();
    crate::sys::git::isolate().map_err(said)?;
    let repository = git2::Repository::init_bare(place).map_err(said)?;
    let places = Places { segments: place.join(content::DIRECTORY), packs: place.join("objects/pack"), limit: 1 << 30 };
    let io = |error: std::io::Error| error.to_string();
    fs::create_dir(&places.segments).map_err(io)?;
    let outcome = ingest(&mut &bytes[..], &places, &OnlyBlobs(&[b""]), &mut |_| true);
    let mut files = 0;
    for directory in [&places.segments, &places.packs] {
        files += fs::read_dir(directory).map_err(io)?.count();
    }
    if outcome.is_err() {
        return if files == 0 { Ok(()) } else { Err(format!("{files} files are left after {outcome:?}")) };
    }
    check_history(&repository)?;
    check_content(place)
}

fn check_history(repository: &git2::Repository) -> Result<(), String> {
    let said = |error: git2::Error| error.to_string();
    let odb = repository.odb().map_err(said)?;
    let mut ids = Vec::new();
    odb.foreach(|id| {
        ids.push(*id);
        true
    })
    .map_err(said)?;
    for id in ids {
        let object = odb.read(id).map_err(said)?;
        check_id(id, object.kind(), object.data())?;
    }
    Ok(())
}

fn check_content(repository: &Path) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let segments = Segments::open(repository).map_err(io)?;
    for (id, extent) in segments.blobs().map_err(|error| error.to_string())? {
        let mut content = Vec::new();
        segments.read(extent).read_to_end(&mut content).map_err(io)?;
        check_id(id, ObjectType::Blob, &content)?;
    }
    Ok(())
}

fn check_id(id: Oid, kind: ObjectType, content: &[u8]) -> Result<(), String> {
    let real = Oid::hash_object(kind, content).map_err(|error| error.to_string())?;
    if real == id { Ok(()) } else { Err(format!("{id} has the content of {real}")) }
}
