use std::collections::BTreeSet;
use std::fmt::Debug;

use git2::Odb;
use git2::Repository;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::pack::WHOLE;

/// Nothing is here.
struct Nothing;

impl Outside for Nothing {
    fn has(&self, _: Oid) -> bool {
        false
    }

    fn read(&self, _: Oid, _: &Path) -> Result<Option<(ObjectType, Content)>, PackError> {
        Ok(None)
    }
}

/// One blob is here.
struct One(&'static [u8]);

impl Outside for One {
    fn has(&self, id: Oid) -> bool {
        id == blob_id(self.0)
    }

    fn read(&self, id: Oid, _: &Path) -> Result<Option<(ObjectType, Content)>, PackError> {
        Ok(self.has(id).then(|| (ObjectType::Blob, self.0.to_vec().into())))
    }
}

fn blob_id(content: &[u8]) -> Oid {
    Oid::hash_object(ObjectType::Blob, content).unwrap()
}

/// A bare repository without objects.
struct Bare {
    place: TempDir,
}

impl Bare {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        drop(Repository::init_bare(place.path()).unwrap());
        Self { place }
    }

    fn packs(&self) -> PathBuf {
        self.place.path().join("objects/pack")
    }

    fn keep(&self, mut pack: &[u8], outside: &dyn Outside) -> Result<u64, PackError> {
        keep(&mut pack, &self.packs(), outside, &mut |_| true)
    }

    /// The files with packs and indexes, by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.packs()).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        let mut files: Vec<_> = entries.map(file).collect();
        files.sort();
        files
    }

    /// All objects, read by libgit2, which compares each with its id.
    fn objects(&self) -> Vec<(Oid, Vec<u8>)> {
        let repository = Repository::open_bare(self.place.path()).unwrap();
        let odb = repository.odb().unwrap();
        let mut objects = Vec::new();
        odb.foreach(|id| {
            objects.push((*id, read(&odb, *id)));
            true
        })
        .unwrap();
        objects.sort();
        objects
    }
}

fn read(odb: &Odb<'_>, id: Oid) -> Vec<u8> {
    let object = odb.read(id).unwrap();
    assert_eq!(Oid::hash_object(object.kind(), object.data()).unwrap(), id);
    object.data().to_vec()
}

/// One object of a handmade pack.
#[derive(Debug, Clone)]
enum Piece {
    Plain(ObjectType, Vec<u8>),
    /// A delta of the object with this number.
    DeltaAt(usize, Vec<u8>),
    DeltaOf(Oid, Vec<u8>),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

fn pack(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = [&b"PACK\0\0\0\x02"[..], &u32::try_from(pieces.len()).unwrap().to_be_bytes()].concat();
    let mut offsets = Vec::new();
    for piece in pieces {
        offsets.push(bytes.len());
        let (head, content) = match piece {
            Piece::Raw(raw) => {
                bytes.extend(raw);
                continue;
            }
            Piece::Plain(kind, content) => (header(*kind, content.len() as u64), content),
            Piece::DeltaAt(base, delta) => {
                let mut back = bytes.len() - offsets[*base];
                let mut distance = vec![(back & 0x7f) as u8];
                while back >> 7 > 0 {
                    back = (back >> 7) - 1;
                    distance.insert(0, 0x80 | (back & 0x7f) as u8);
                }
                (typed(6, delta, &distance), delta)
            }
            Piece::DeltaOf(id, delta) => (typed(7, delta, id.as_bytes()), delta),
        };
        bytes.extend(head);
        let mut zlib = ZlibEncoder::new(&mut bytes, Compression::fast());
        zlib.write_all(content).unwrap();
        zlib.finish().unwrap();
    }
    signed(bytes)
}

fn typed(kind: u8, delta: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut head = header(ObjectType::Blob, delta.len() as u64);
    head[0] = (head[0] & 0x8f) | (kind << 4);
    head.extend(rest);
    head
}

fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = Sha1::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn blob(content: &[u8]) -> Piece {
    Piece::Plain(ObjectType::Blob, content.to_vec())
}

/// The instructions that append `more` to `base`.
fn append(base: &[u8], more: &[u8]) -> Vec<u8> {
    let mut delta = [size(base.len()), size(base.len() + more.len())].concat();
    let mut copied = 0;
    while copied < base.len() {
        let length = (base.len() - copied).min(0xff_ffff);
        delta.push(0xff);
        delta.extend(&u32::try_from(copied).unwrap().to_le_bytes());
        delta.extend(&u32::try_from(length).unwrap().to_le_bytes()[..3]);
        copied += length;
    }
    for piece in more.chunks(0x7f) {
        delta.push(u8::try_from(piece.len()).unwrap());
        delta.extend(piece);
    }
    delta
}

fn size(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while size >> 7 > 0 {
        bytes.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes
}

fn assert_damaged(outcome: Result<u64, PackError>, words: &str, what: &impl Debug) {
    let message = outcome.expect_err(words).to_string();
    assert!(message.contains(words), "{what:?}: {message}");
}

/// Files of which each has something of the one before, as they change over time.
fn versions(count: usize) -> Vec<Vec<u8>> {
    let line = |number: usize| format!("line {number}: {}\n", number.wrapping_mul(2_654_435_761) % 1_000_003);
    (0..count).map(|version| (version * 3..version * 3 + 200).map(line).collect::<String>().into_bytes()).collect()
}

#[test]
fn the_pack_and_the_index_are_those_that_libgit2_writes() {
    for count in [1, 2, 60, 700] {
        let source = Bare::new();
        let repository = Repository::open_bare(source.place.path()).unwrap();
        let mut builder = repository.packbuilder().unwrap();
        for version in versions(count) {
            builder.insert_object(repository.blob(&version).unwrap(), None).unwrap();
        }
        let mut written = git2::Buf::new();
        builder.write_buf(&mut written).unwrap();
        let ours = Bare::new();
        assert_eq!(ours.keep(&written, &Nothing).unwrap(), count as u64);

        let theirs = Bare::new();
        let repository = Repository::open_bare(theirs.place.path()).unwrap();
        let odb = repository.odb().unwrap();
        let mut writer = odb.packwriter().unwrap();
        writer.write_all(&written).unwrap();
        writer.commit().unwrap();
        let contents = |bare: &Bare| bare.files().into_iter().map(|(_, content)| content).collect::<Vec<_>>();
        assert!(contents(&ours) == contents(&theirs), "{count} objects");
        assert_eq!(ours.objects().len(), count);
    }
}

#[test]
fn deltas_of_later_and_of_outside_objects_are_resolved() {
    let last = b"the last object".repeat(10);
    let second = [&last[..], b" and more"].concat();
    let first = [&second[..], b" and even more"].concat();
    const HERE: &[u8] = b"what is here already, and was for a long time";
    let thin = [HERE, b", and what is new"].concat();
    let bytes = pack(&[
        Piece::DeltaOf(blob_id(&second), append(&second, b" and even more")),
        Piece::DeltaOf(blob_id(HERE), append(HERE, b", and what is new")),
        Piece::DeltaAt(0, append(&first, b"!")),
        Piece::DeltaOf(blob_id(&last), append(&last, b" and more")),
        Piece::DeltaOf(blob_id(&thin), append(&thin, b"er")),
        blob(&last),
    ]);
    let bare = Bare::new();
    assert_eq!(bare.keep(&bytes, &One(HERE)).unwrap(), 6);
    let all = [&last, &second, &first, &[&first[..], b"!"].concat(), &thin, &[&thin[..], b"er"].concat()];
    let mut expected: Vec<_> = all.iter().map(|content| (blob_id(content), content.to_vec())).collect();
    expected.push((blob_id(HERE), HERE.to_vec()));
    expected.sort();
    assert_eq!(bare.objects(), expected);
    let without = Bare::new();
    assert_damaged(without.keep(&bytes, &Nothing), " is missing", &"thin");
    assert!(without.files().is_empty());
}

#[test]
fn a_pack_that_has_what_is_here_too_is_not_completed() {
    const HERE: &[u8] = b"what is here already";
    let bytes = pack(&[Piece::DeltaOf(blob_id(HERE), append(HERE, b"!")), blob(HERE)]);
    let bare = Bare::new();
    bare.keep(&bytes, &One(HERE)).unwrap();
    assert!(bare.files().iter().any(|(_, content)| *content == bytes));
}

#[test]
fn large_objects_and_their_deltas_go_through_files() {
    let large: Vec<u8> = (0..WHOLE + 100_000).map(|byte| (byte % 251) as u8).collect();
    let larger = [&large[..], b"more"].concat();
    let bare = Bare::new();
    let bytes = pack(&[
        Piece::DeltaOf(blob_id(&larger), append(&larger, b" and more")),
        blob(&large),
        Piece::DeltaAt(1, append(&large, b"more")),
        Piece::DeltaAt(2, append(&larger, b"!")),
    ]);
    bare.keep(&bytes, &Nothing).unwrap();
    let contents: Vec<_> = bare.objects().into_iter().map(|(_, content)| content).collect();
    assert_eq!(contents.len(), 4);
    for end in [&b"more"[..], b"more and more", b"more!"] {
        assert!(contents.contains(&[&large[..], end].concat()));
    }
    assert_eq!(bare.files().len(), 2, "temporary files are left");
}

#[test]
fn an_object_may_come_twice_and_junk_at_the_end_is_ignored() {
    let bare = Bare::new();
    let bytes = pack(&[blob(b"twice"), blob(b"once"), blob(b"twice")]);
    bare.keep(&[&bytes[..], &[0; 100_000]].concat(), &Nothing).unwrap();
    let objects = bare.objects().into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>();
    assert_eq!(objects, [blob_id(b"once"), blob_id(b"twice")].into());
    assert!(bare.files().iter().any(|(_, content)| *content == bytes));
}

#[test]
fn an_object_may_not_come_twice_among_deltas_by_id() {
    let by_id = Piece::DeltaOf(blob_id(b"twice"), append(b"twice", b"!"));
    for pieces in [
        vec![blob(b"twice"), blob(b"twice"), by_id.clone()],
        vec![by_id.clone(), blob(b"twice"), blob(b"twice")],
        vec![blob(b"twice"), by_id.clone(), by_id],
    ] {
        assert_damaged(Bare::new().keep(&pack(&pieces), &Nothing), "is there twice", &pieces);
    }
}

#[test]
fn an_empty_pack_leaves_nothing() {
    let bare = Bare::new();
    assert_eq!(bare.keep(&pack(&[]), &Nothing).unwrap(), 0);
    assert!(bare.files().is_empty());
}

#[test]
fn what_is_not_a_pack_is_refused() {
    let whole = pack(&[blob(b"content")]);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let missing = Oid::from_bytes(&[7; 20]).unwrap();
    let bomb = Piece::Plain(ObjectType::Blob, vec![0; 1 << 20]);
    let Piece::Plain(_, zeros) = &bomb else { unreachable!() };
    let mut lies = typed(3, &[0; 10], &[]);
    let mut zlib = ZlibEncoder::new(&mut lies, Compression::fast());
    zlib.write_all(zeros).unwrap();
    zlib.finish().unwrap();
    for (bytes, words) in [
        (with(0, b'p'), "does not begin as one"),
        (with(7, 4), "unknown version"),
        (with(4, 1), "unknown version"),
        (with(11, 2), "is damaged"),
        (with(12, 0x50), "unknown type"),
        (with(12, 0x36), "larger than it says"),
        (with(12, 0x38), "smaller than it says"),
        (with(15, 0xff), "cannot be inflated"),
        (with(whole.len() - 1, whole[whole.len() - 1] ^ 1), "checksum does not match"),
        (b"PACK\0\0\0\x02\xff\xff\xff\xff".to_vec(), "4294967295 objects"),
        (pack(&[Piece::Raw(lies)]), "larger than it says"),
        (pack(&[Piece::DeltaOf(missing, append(b"x", b"y"))]), "0707070707070707070707070707070707070707 is missing"),
        (pack(&[blob(b"base"), Piece::DeltaAt(0, append(b"other", b"y"))]), "a delta of another object"),
        (pack(&[blob(b"base"), Piece::DeltaAt(1, vec![])]), "is a delta of nothing"),
        (pack(&[blob(b"base"), Piece::Raw([&typed(6, &[], &[3])[..], b"x"].concat())]), "builds on it"),
    ] {
        let bare = Bare::new();
        assert_damaged(bare.keep(&bytes, &Nothing), words, &bytes);
        assert!(bare.files().is_empty(), "{words}");
    }
    for length in 0..whole.len() {
        let bare = Bare::new();
        assert_damaged(bare.keep(&whole[..length], &Nothing), "it ends too early", &length);
        assert!(bare.files().is_empty());
    }
}

#[test]
fn deltas_in_a_circle_are_refused() {
    let (one, two) = (b"one".to_vec(), b"one and two".to_vec());
    let bytes = pack(&[
        Piece::DeltaOf(blob_id(&two), append(&two, b"!")),
        Piece::DeltaAt(0, append(&one, b" and two")),
        Piece::DeltaOf(blob_id(&one), append(&one, b" and two")),
    ]);
    assert_damaged(Bare::new().keep(&bytes, &Nothing), "is missing", &"circle");
}

/// Readers of such a pack would never end.
#[test]
fn what_is_here_cannot_become_a_delta_of_what_builds_on_it() {
    const HERE: &[u8] = b"what is here already";
    let more = [HERE, b"!"].concat();
    let shorter = [&size(more.len())[..], &size(HERE.len()), &[0x90, HERE.len() as u8]].concat();
    let same = append(HERE, b"");
    for pieces in [
        vec![Piece::DeltaOf(blob_id(HERE), same)],
        vec![Piece::DeltaOf(blob_id(HERE), append(HERE, b"!")), Piece::DeltaAt(0, shorter.clone())],
        vec![Piece::DeltaOf(blob_id(&more), shorter), Piece::DeltaOf(blob_id(HERE), append(HERE, b"!"))],
    ] {
        let bare = Bare::new();
        assert_damaged(bare.keep(&pack(&pieces), &One(HERE)), "builds on itself", &pieces);
        assert!(bare.files().is_empty());
    }
}

#[test]
fn what_is_here_may_come_again_as_a_delta() {
    const HERE: &[u8] = b"what is here already";
    let more = [HERE, b"!"].concat();
    let bare = Bare::new();
    let bytes = pack(&[
        Piece::DeltaOf(blob_id(HERE), append(HERE, b"!")),
        Piece::DeltaOf(blob_id(b"what"), append(b"what", b" is here already")),
        blob(b"what"),
    ]);
    bare.keep(&bytes, &One(HERE)).unwrap();
    assert!(bare.files().iter().any(|(_, content)| *content == bytes), "nothing was missing");
    assert!(bare.objects().iter().any(|(_, content)| *content == more));
}

#[test]
fn a_chain_of_deltas_may_be_long() {
    let mut pieces = vec![blob(b"0")];
    let mut content = b"0".to_vec();
    for number in 0..5000 {
        pieces.push(Piece::DeltaAt(number, append(&content, b"1")));
        content.push(b'1');
    }
    let bare = Bare::new();
    bare.keep(&pack(&pieces), &Nothing).unwrap();
    assert_eq!(bare.objects().len(), 5001);
}

#[test]
fn it_ends_as_soon_as_it_is_not_wanted() {
    let bytes = pack(&[blob(b"1"), blob(b"2"), blob(b"3")]);
    for last in 0..3 {
        let bare = Bare::new();
        let outcome = keep(&mut &bytes[..], &bare.packs(), &Nothing, &mut |seen| seen.objects < last);
        assert!(matches!(outcome, Err(PackError::Stopped)), "{last}");
        assert!(bare.files().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted can be read by libgit2, and what is not leaves nothing.
    #[test]
    fn a_damaged_pack_is_refused_or_whole(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        is_signed in any::<bool>(),
    ) {
        let mut pieces: Vec<_> = versions(12).iter().map(|version| blob(version)).collect();
        pieces.push(Piece::DeltaAt(3, append(&versions(12)[3], b"more")));
        pieces.push(Piece::DeltaOf(blob_id(b"last"), append(b"last", b"more")));
        pieces.push(blob(b"last"));
        let mut bytes = pack(&pieces);
        let content = bytes.len() - TRAILER;
        for (at, byte) in changes {
            bytes[at.index(content)] = byte;
        }
        if is_signed {
            bytes.truncate(content);
            bytes = signed(bytes);
        }
        let bare = Bare::new();
        match bare.keep(&bytes, &Nothing) {
            Ok(_) => drop(bare.objects()),
            Err(_) => prop_assert!(bare.files().is_empty()),
        }
    }
}
