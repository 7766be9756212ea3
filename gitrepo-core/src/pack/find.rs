//! Looks for one object in a pack that nobody keeps.

use std::io::Read;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::entry::Entry;
use super::entry::Form;
use super::hash::ObjectHash;
use super::inflate::Inflater;
use super::ingest::total;
use super::input::Input;

/// Bytes read at once: the object that is looked for is usually the first one, and small.
const BUFFER: usize = 4096;

/// Most bytes of a pack that are read in search of an object, and most bytes of its objects.
const MOST_BYTES: u64 = 64 << 20;

/// Length in bytes of the longest commit that is looked for. One of git's own history that merges many signed tags has
/// about 50,000. In a message of a worker, each may take four.
pub(crate) const LONGEST_COMMIT: u64 = 240 << 10;

/// Reads a pack up to the object with this id, and returns its type and, of a commit or a tag, its content; `None` if it
/// does not come. Deltas are passed over: a server sends an object as one only if it also sends the object that it builds
/// on. So are commits and tags that are too [long](LONGEST_COMMIT).
///
/// # Errors
///
/// If the pack cannot be read, or is too large to look through.
pub(crate) fn find(source: &mut dyn Read, wanted: Oid) -> Result<Option<(ObjectType, Vec<u8>)>, PackError> {
    search(source, wanted, |kind, size| match kind {
        ObjectType::Commit | ObjectType::Tag if size > LONGEST_COMMIT => Use::None,
        ObjectType::Commit | ObjectType::Tag => Use::Content,
        _ => Use::Type,
    })
}

/// The same for the content of a tree, if it is no longer than `longest` bytes.
///
/// # Errors
///
/// As for [`find`].
pub(crate) fn find_tree(source: &mut dyn Read, wanted: Oid, longest: u64) -> Result<Option<Vec<u8>>, PackError> {
    let found = search(source, wanted, |kind, size| match kind {
        ObjectType::Tree if size <= longest => Use::Content,
        _ => Use::None,
    })?;
    Ok(found.map(|(_, content)| content))
}

/// What an object of a pack is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Its type and its content may be wanted.
    Content,
    /// Its type may be wanted.
    Type,
    /// It is passed over.
    None,
}

fn search(
    source: &mut dyn Read,
    wanted: Oid,
    used: impl Fn(ObjectType, u64) -> Use,
) -> Result<Option<(ObjectType, Vec<u8>)>, PackError> {
    let mut input = Input::with_capacity(BUFFER, source.take(MOST_BYTES));
    let mut inflater = Inflater::new()?;
    let mut left = MOST_BYTES;
    for _ in 0..total(&mut input)? {
        let offset = input.position();
        let Entry { form, size, .. } = Entry::read(&mut input, offset)?;
        left = left.checked_sub(size).ok_or(PackError::TooLarge(MOST_BYTES))?;
        let mut hash = match form {
            Form::Plain(kind) => Some((kind, used(kind, size), ObjectHash::new(kind, size))),
            Form::DeltaAt(_) | Form::DeltaOf(_) => None,
        };
        hash = hash.filter(|(_, used, _)| *used != Use::None);
        let mut content = Vec::new();
        inflater.inflate(&mut input, (offset, size), |piece| {
            if let Some((_, used, hash)) = &mut hash {
                hash.update(piece);
                if *used == Use::Content {
                    content.extend_from_slice(piece);
                }
            }
            Ok(())
        })?;
        if let Some((kind, _, hash)) = hash
            && hash.finish()? == wanted
        {
            return Ok(Some((kind, content)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack of these blobs.
    fn pack(blobs: &[&[u8]]) -> (Vec<u8>, Vec<Oid>) {
        let odb = git2::Odb::new().unwrap();
        odb.add_new_mempack_backend(1).unwrap();
        let repository = git2::Repository::from_odb(odb).unwrap();
        let ids: Vec<_> = blobs.iter().map(|blob| repository.blob(blob).unwrap()).collect();
        let mut pack = repository.packbuilder().unwrap();
        for id in &ids {
            pack.insert_object(*id, None).unwrap();
        }
        let mut buffer = git2::Buf::new();
        pack.write_buf(&mut buffer).unwrap();
        (buffer.to_vec(), ids)
    }

    #[test]
    fn s23_an_object_is_found_by_its_content_and_no_other_is() {
        let (bytes, ids) = pack(&[b"one", b"two", b"three"]);
        for id in ids {
            assert_eq!(find(&mut &bytes[..], id).unwrap(), Some((ObjectType::Blob, Vec::new())));
        }
        let absent = Oid::hash_object(ObjectType::Commit, b"one").unwrap();
        assert_eq!(find(&mut &bytes[..], absent).unwrap(), None);
        let (nothing, _) = pack(&[]);
        assert_eq!(find(&mut &nothing[..], absent).unwrap(), None);
    }

    #[test]
    fn s23_what_follows_the_object_is_not_read() {
        let noise: Vec<u8> =
            (0..200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let (bytes, ids) = pack(&[b"first", &noise]);
        let mut rest = &bytes[..];
        assert_eq!(find(&mut rest, ids[0]).unwrap(), Some((ObjectType::Blob, Vec::new())));
        assert_eq!(bytes.len() - rest.len(), BUFFER);
    }

    #[test]
    fn s23_a_pack_that_breaks_off_or_is_endless_is_an_error() {
        let (bytes, ids) = pack(&[b"one"]);
        for length in 0..bytes.len() - 21 {
            find(&mut &bytes[..length], ids[0]).unwrap_err();
        }
        // A blob that says to be larger than what is looked through.
        let mut huge = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
        huge.extend_from_slice(&[0xb0, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(find(&mut &huge[..], ids[0]), Err(PackError::TooLarge(_))));
    }
}
