//! The id of an object, computed with a look-out for attacks on SHA-1.

use git2::ObjectType;
use git2::Oid;
use sha1dc::Hasher;

use super::PackError;
use crate::spec::CommitId;

/// Hashes one object, piece by piece.
pub(crate) struct ObjectHash(Hasher);

impl ObjectHash {
    /// `length` is the object's, in bytes.
    pub(crate) fn new(kind: ObjectType, length: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(format!("{kind} {length}\0").as_bytes());
        Self(hasher)
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the object's id, unless its content was made to share its id with another one (CVE-2005-4900).
    pub(crate) fn finish(self) -> Result<Oid, PackError> {
        match self.0.finalize() {
            Ok(digest) => Ok(id(digest.as_ref())),
            Err(collision) => Err(PackError::Collision(id(collision.digest().as_ref()))),
        }
    }
}

/// Whether this is the content of that commit.
pub(crate) fn is_commit(id: CommitId, content: &[u8]) -> bool {
    is_object(id, ObjectType::Commit, content)
}

/// Whether this is the content of that object.
pub(crate) fn is_object(id: CommitId, kind: ObjectType, content: &[u8]) -> bool {
    let mut hash = ObjectHash::new(kind, content.len() as u64);
    hash.update(content);
    hash.finish().is_ok_and(|found| found.as_bytes() == id.as_bytes())
}

/// libgit2 fails only for another length.
fn id(digest: &[u8]) -> Oid {
    Oid::from_bytes(digest).unwrap_or(Oid::ZERO_SHA1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use sha1::Digest;
    use sha1::Sha1;

    use super::*;
    use crate::pack::Content;

    /// The beginning that the two files of the first public collision share (shattered.io, 2017), and the two blocks of
    /// each that follow.
    const COMMON: &str = "\
        255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033\
        203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f72\
        53706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a7374\
        7265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01\
    ";
    const BLOCKS: [&str; 2] = [
        "\
        7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3\
        dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500\
        eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1\
        ",
        "\
        7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb7\
        6038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514\
        e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1\
        ",
    ];

    fn bytes(digits: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    /// The hash by sha1-checked, and whether it found an attack.
    fn checked(content: &[u8]) -> (Vec<u8>, bool) {
        let mut hasher = sha1_checked::Sha1::builder().safe_hash(false).build();
        hasher.update(content);
        let result = hasher.try_finalize();
        (result.hash().to_vec(), result.has_collision())
    }

    #[test]
    fn an_attack_is_found_as_by_another_implementation() {
        let files = BLOCKS.map(|blocks| [bytes(COMMON), bytes(blocks)].concat());
        assert_ne!(files[0], files[1]);
        for rest in [&b""[..], b"and what follows"] {
            let files = files.clone().map(|file| [&file[..], rest].concat());
            let plain = files.each_ref().map(|file| Sha1::digest(file).to_vec());
            assert_eq!(plain[0], plain[1], "they collide");
            for file in files {
                let mut hash = ObjectHash(Hasher::new());
                hash.update(&file);
                let Err(PackError::Collision(_)) = hash.finish() else { panic!("not found") };
                assert_eq!(checked(&file), (plain[0].clone(), true));
            }
        }
        // Not what only looks like one.
        let mut harmless = [bytes(COMMON), bytes(BLOCKS[0])].concat();
        *harmless.last_mut().unwrap() ^= 1;
        let mut hash = ObjectHash(Hasher::new());
        hash.update(&harmless);
        assert_eq!(hash.finish().unwrap(), id(&Sha1::digest(&harmless)));
        assert_eq!(checked(&harmless), (Sha1::digest(&harmless).to_vec(), false));
    }

    fn id_of(kind: ObjectType, content: &Content) -> Result<Oid, PackError> {
        let mut hash = ObjectHash::new(kind, content.len());
        let hashed = content.for_each_piece(|piece| {
            hash.update(piece);
            Ok(())
        });
        hashed.map_err(PackError::Disk)?;
        hash.finish()
    }

    proptest! {
        #[test]
        fn any_content_has_the_id_that_other_implementations_give_it(
            content in vec(any::<u8>(), 0..5000),
            kind in prop::sample::select(vec![ObjectType::Blob, ObjectType::Tree, ObjectType::Commit, ObjectType::Tag]),
            pieces in 1..300_usize,
        ) {
            let ours = id_of(kind, &Content::from(content.clone())).unwrap();
            prop_assert_eq!(ours, Oid::hash_object(kind, &content).unwrap_or(ours));
            let object = [format!("{kind} {}\0", content.len()).as_bytes(), &content].concat();
            prop_assert_eq!(ours, id(&Sha1::digest(&object)));
            prop_assert_eq!(checked(&object), (ours.as_bytes().to_vec(), false));
            let mut hash = ObjectHash(Hasher::new());
            object.chunks(pieces).for_each(|piece| hash.update(piece));
            prop_assert_eq!(hash.finish().unwrap(), ours);
        }
    }
}
