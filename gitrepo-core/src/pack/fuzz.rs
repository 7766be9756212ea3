//! The property of packs, for fuzzing: the function panics on input that breaks it.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use git2::ObjectType;
use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::Content;
use super::Outside;
use super::PackError;
use super::keep;

/// Nothing is here but an empty blob.
struct Empty;

impl Outside for Empty {
    fn has(&self, id: Oid) -> bool {
        Oid::hash_object(ObjectType::Blob, b"").is_ok_and(|empty| empty == id)
    }

    fn read(&self, id: Oid, _: &Path) -> Result<Option<(ObjectType, Content)>, PackError> {
        Ok(self.has(id).then(|| (ObjectType::Blob, Vec::new().into())))
    }
}

/// Objects, after the beginning of a pack and before its trailer: libgit2 can read what is kept, and what is refused
/// leaves nothing. The first four bytes are the number of objects.
pub fn pack(objects: &[u8]) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let place = std::env::temp_dir().join(format!("gitrepo-pack-{}-{number}", std::process::id()));
    let mut bytes = [b"PACK\0\0\0\x02", objects].concat();
    let trailer = Sha1::digest(&bytes);
    bytes.extend_from_slice(&trailer);
    let kept = keep_in(&place, &bytes);
    fs::remove_dir_all(&place).ok();
    if let Err(problem) = kept {
        panic!("{problem}");
    }
}

fn keep_in(place: &Path, bytes: &[u8]) -> Result<(), String> {
    let said = |error: git2::Error| error.to_string();
    crate::sys::git::isolate().map_err(said)?;
    let repository = git2::Repository::init_bare(place).map_err(said)?;
    let packs = place.join("objects/pack");
    let outcome = keep(&mut &bytes[..], &packs, &Empty, &mut |_| true);
    let files = fs::read_dir(&packs).map_err(|error| error.to_string())?.count();
    if !matches!(outcome, Ok(1..)) {
        return if files == 0 { Ok(()) } else { Err(format!("{files} files are left after {outcome:?}")) };
    }
    let odb = repository.odb().map_err(said)?;
    let mut ids = Vec::new();
    odb.foreach(|id| {
        ids.push(*id);
        true
    })
    .map_err(said)?;
    for id in ids {
        let object = odb.read(id).map_err(said)?;
        let real = Oid::hash_object(object.kind(), object.data()).map_err(said)?;
        if real != id {
            return Err(format!("{id} has the content of {real}"));
        }
    }
    Ok(())
}
