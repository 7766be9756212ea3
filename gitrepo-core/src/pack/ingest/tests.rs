use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::Repository;
use git2::Signature;
use git2::Time;
use proptest::prelude::*;
use sha1::Digest;
use sha1::Sha1;
use tempfile::TempDir;

use super::*;
use crate::content;
use crate::content::Segments;
use crate::pack::Places;
use crate::pack::WHOLE;
use crate::pack::fake::OnlyBlobs;
use crate::pack::fake::ingest;
use crate::pack::history::header;
use crate::pack::input::TRAILER;

/// Nothing is here.
const NOTHING: OnlyBlobs<'_> = OnlyBlobs(&[]);

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
        fs::create_dir(place.path().join(content::DIRECTORY)).unwrap();
        Self { place }
    }

    fn places(&self) -> Places {
        let path = self.place.path();
        Places { segments: path.join(content::DIRECTORY), packs: path.join("objects/pack"), limit: 1 << 30 }
    }

    fn ingest(&self, mut pack: &[u8], outside: &dyn Outside) -> Result<(), PackError> {
        ingest(&mut pack, &self.places(), outside, &mut |_| true)
    }

    /// The names of all files.
    fn files(&self) -> Vec<String> {
        let Places { segments, packs, .. } = self.places();
        let names = [segments, packs].map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()));
        names.into_iter().flatten().map(|name| name.into_string().unwrap()).collect()
    }

    /// All objects, each of which is what its id says.
    fn objects(&self) -> BTreeMap<Oid, (ObjectType, Vec<u8>)> {
        let repository = Repository::open_bare(self.place.path()).unwrap();
        let odb = repository.odb().unwrap();
        let mut objects = BTreeMap::new();
        odb.foreach(|id| {
            let object = odb.read(*id).unwrap();
            assert_ne!(object.kind(), ObjectType::Blob);
            objects.insert(*id, (object.kind(), object.data().to_vec()));
            true
        })
        .unwrap();
        let segments = Segments::open(self.place.path()).unwrap();
        for (id, extent) in segments.blobs().unwrap() {
            assert_eq!(extent.offset % content::ALIGNMENT, 0);
            let mut content = Vec::new();
            segments.read(extent).read_to_end(&mut content).unwrap();
            objects.insert(id, (ObjectType::Blob, content));
        }
        for (id, (kind, content)) in &objects {
            assert_eq!(Oid::hash_object(*kind, content).unwrap(), *id);
        }
        objects
    }

    fn has(&self, blob: &[u8]) -> bool {
        self.objects().get(&blob_id(blob)).is_some_and(|(_, content)| content == blob)
    }
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

fn assert_damaged(outcome: Result<(), PackError>, words: &str, what: &impl Debug) {
    let message = outcome.expect_err(words).to_string();
    assert!(message.contains(words), "{what:?}: {message}");
}

/// Files of which each has something of the one before, as they change over time.
fn versions(count: usize) -> Vec<Vec<u8>> {
    let line = |number: usize| format!("line {number}: {}\n", number.wrapping_mul(2_654_435_761) % 1_000_003);
    (0..count).map(|version| (version * 3..version * 3 + 200).map(line).collect::<String>().into_bytes()).collect()
}

#[test]
fn all_objects_of_a_repository_are_kept_and_those_of_the_history_as_a_pack() {
    for count in [1, 2, 60, 700] {
        let source = tempfile::tempdir().unwrap();
        let source = Repository::init_bare(source.path()).unwrap();
        let author = Signature::new("A", "a@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        let mut parent: Option<Oid> = None;
        let mut pack = source.packbuilder().unwrap();
        let mut expected = BTreeMap::new();
        for version in versions(count) {
            let mut tree = source.treebuilder(None).unwrap();
            for name in 0..30 {
                tree.insert(format!("file {name}"), blob_id(b"submodule"), 0o160_000).unwrap();
            }
            tree.insert("file", source.blob(&version).unwrap(), 0o100_644).unwrap();
            let tree = source.find_tree(tree.write().unwrap()).unwrap();
            let parents: Vec<_> = parent.iter().map(|parent| source.find_commit(*parent).unwrap()).collect();
            let parents: Vec<_> = parents.iter().collect();
            parent = Some(source.commit(None, &author, &author, "m", &tree, &parents).unwrap());
        }
        let odb = source.odb().unwrap();
        odb.foreach(|id| {
            let object = odb.read(*id).unwrap();
            expected.insert(*id, (object.kind(), object.data().to_vec()));
            pack.insert_object(*id, None).unwrap();
            true
        })
        .unwrap();
        let mut bytes = git2::Buf::new();
        pack.write_buf(&mut bytes).unwrap();
        let bare = Bare::new();
        bare.ingest(&bytes, &NOTHING).unwrap();
        assert!(bare.objects() == expected, "{count} commits");
        assert_eq!(bare.files().len(), 4, "{:?}", bare.files());
    }
}

#[test]
fn deltas_of_later_and_of_outside_objects_are_resolved() {
    const HERE: &[u8] = b"what is here already, and was for a long time";
    let last = b"the last object".repeat(10);
    let second = [&last[..], b" and more"].concat();
    let first = [&second[..], b" and even more"].concat();
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
    bare.ingest(&bytes, &OnlyBlobs(&[HERE])).unwrap();
    assert_eq!(bare.objects().len(), 6);
    for content in [&last, &second, &first, &[&first[..], b"!"].concat(), &thin, &[&thin[..], b"er"].concat()] {
        assert!(bare.has(content));
    }
    let without = Bare::new();
    assert_damaged(without.ingest(&bytes, &NOTHING), "is missing", &"thin");
    assert_eq!(without.files(), [""; 0]);
}

/// git and libgit2 would never end to read such a pack, if it were kept as it is.
#[test]
fn objects_that_build_on_each_other_through_one_that_is_here_are_kept_whole() {
    const HERE: &[u8] = b"what is here already";
    let more = [HERE, b"!"].concat();
    let shorter = [&size(more.len())[..], &size(HERE.len()), &[0x90, HERE.len() as u8]].concat();
    for pieces in [
        vec![Piece::DeltaOf(blob_id(HERE), append(HERE, b""))],
        vec![Piece::DeltaOf(blob_id(HERE), append(HERE, b"!")), Piece::DeltaAt(0, shorter.clone())],
        vec![Piece::DeltaOf(blob_id(&more), shorter), Piece::DeltaOf(blob_id(HERE), append(HERE, b"!"))],
    ] {
        let bare = Bare::new();
        bare.ingest(&pack(&pieces), &OnlyBlobs(&[HERE])).unwrap();
        assert!(bare.has(HERE), "{pieces:?}");
    }
}

#[test]
fn large_objects_and_their_deltas_go_through_files() {
    let large: Vec<u8> = (0..WHOLE + 100_000).map(|byte| (byte % 251) as u8).collect();
    let larger = [&large[..], b"more"].concat();
    for kind in [ObjectType::Blob, ObjectType::Tag] {
        let id = |content: &[u8]| Oid::hash_object(kind, content).unwrap();
        let bare = Bare::new();
        let bytes = pack(&[
            Piece::DeltaOf(id(&larger), append(&larger, b" and more")),
            Piece::Plain(kind, large.clone()),
            Piece::DeltaAt(1, append(&large, b"more")),
            Piece::DeltaAt(2, append(&larger, b"!")),
        ]);
        bare.ingest(&bytes, &NOTHING).unwrap();
        let objects = bare.objects();
        for end in [&b""[..], b"more", b"more and more", b"more!"] {
            let content = [&large[..], end].concat();
            assert!(objects.get(&id(&content)) == Some(&(kind, content)), "{kind}");
        }
        assert_eq!((objects.len(), bare.files().len()), (4, 2), "temporary files are left");
    }
}

#[test]
fn an_object_may_come_twice_and_junk_at_the_end_is_ignored() {
    let bare = Bare::new();
    let bytes = pack(&[blob(b"twice"), blob(b"once"), blob(b"twice")]);
    bare.ingest(&[&bytes[..], &[0; 100_000]].concat(), &NOTHING).unwrap();
    assert_eq!(bare.objects().len(), 2);
}

#[test]
fn an_empty_pack_leaves_nothing() {
    let bare = Bare::new();
    bare.ingest(&pack(&[]), &NOTHING).unwrap();
    assert_eq!(bare.files(), [""; 0]);
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
        assert_damaged(bare.ingest(&bytes, &NOTHING), words, &bytes);
        assert!(bare.files().is_empty(), "{words}");
    }
    for length in 0..whole.len() {
        let bare = Bare::new();
        assert_damaged(bare.ingest(&whole[..length], &NOTHING), "it ends too early", &length);
        assert!(bare.files().is_empty());
    }
}

#[test]
fn a_delta_of_an_object_without_an_id_is_refused() {
    let bytes = pack(&[Piece::DeltaOf(Oid::ZERO_SHA1, append(b"x", b"y")), blob(b"x")]);
    assert_damaged(Bare::new().ingest(&bytes, &NOTHING), "is missing", &"zero");
}

#[test]
fn objects_are_counted_to_the_last() {
    let mut seen = Vec::new();
    let bytes = pack(&[blob(b"1"), blob(b"2")]);
    ingest(&mut &bytes[..], &Bare::new().places(), &NOTHING, &mut |now| {
        seen.push((now.objects, now.total));
        true
    })
    .unwrap();
    assert_eq!(seen, [(0, 2), (1, 2), (2, 2)]);
}

#[test]
fn no_more_is_written_than_the_limit() {
    let bomb = vec![0; 1 << 20];
    let mut doubled = [size(bomb.len()), size(bomb.len() * 64)].concat();
    for _ in 0..64 {
        doubled.extend([0xf0, 0, 0, 0x10]);
    }
    for pieces in [
        vec![blob(&bomb), blob(&bomb), blob(&bomb)],
        vec![blob(&bomb), Piece::DeltaAt(0, doubled.clone())],
        vec![Piece::DeltaOf(blob_id(&bomb), doubled), blob(&bomb)],
        vec![Piece::Plain(ObjectType::Tree, vec![1; 3 << 20])],
    ] {
        let bare = Bare::new();
        let places = Places { limit: 5 << 19, ..bare.places() };
        let outcome = ingest(&mut &pack(&pieces)[..], &places, &NOTHING, &mut |_| true);
        assert!(matches!(outcome, Err(PackError::TooLarge(_))), "{outcome:?}");
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
    assert_damaged(Bare::new().ingest(&bytes, &NOTHING), "is missing", &"circle");
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
    bare.ingest(&pack(&pieces), &NOTHING).unwrap();
    assert_eq!(bare.objects().len(), 5001);
}

#[test]
fn a_delta_that_waits_for_an_id_is_resolved_whenever_the_id_becomes_known() {
    // Too large to be remembered: the delta of the delta has it read back, which asks for its id.
    let base = vec![b'x'; 5 << 20];
    let [first, second, third] =
        [&b"1"[..], b"12", b"13"].map(|more| base.iter().chain(more).copied().collect::<Vec<u8>>());
    let pieces = [
        Piece::DeltaOf(blob_id(&base), append(&base, b"1")),
        Piece::DeltaAt(0, append(&first, b"2")),
        Piece::DeltaOf(blob_id(&first), append(&first, b"3")),
        blob(&base),
    ];
    let bare = Bare::new();
    bare.ingest(&pack(&pieces), &NOTHING).unwrap();
    for blob in [base, first, second, third] {
        assert!(bare.has(&blob));
    }
}

#[test]
fn it_ends_as_soon_as_it_is_not_wanted() {
    let bytes = pack(&[blob(b"1"), blob(b"2"), blob(b"3")]);
    for last in 0..3 {
        let bare = Bare::new();
        let outcome = ingest(&mut &bytes[..], &bare.places(), &NOTHING, &mut |seen| seen.objects < last);
        assert!(matches!(outcome, Err(PackError::Stopped)), "{last}");
        assert!(bare.files().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted is what its ids say, and what is not leaves nothing.
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
        match bare.ingest(&bytes, &NOTHING) {
            Ok(()) => drop(bare.objects()),
            Err(_) => prop_assert!(bare.files().is_empty()),
        }
    }
}

#[test]
fn a_huge_delta_is_given_up_when_it_is_not_wanted_any_more() {
    // 128 times the base: 8 MiB.
    let base = vec![b'x'; 1 << 16];
    let mut delta = vec![0x80, 0x80, 0x04, 0x80, 0x80, 0x80, 0x04];
    delta.extend(std::iter::repeat_n(0x80, 128));
    let blob = || Piece::Plain(ObjectType::Blob, base.clone());
    // As it arrives, and once all others are there.
    for huge in [Piece::DeltaAt(0, delta.clone()), Piece::DeltaOf(blob_id(&base), delta)] {
        let bytes = pack(&[blob(), huge]);
        let looks = |most: usize| {
            let (bare, mut looks) = (Bare::new(), 0);
            let done = ingest(&mut &bytes[..], &bare.places(), &NOTHING, &mut |_| {
                looks += 1;
                looks <= most
            });
            (done, looks, bare.files())
        };
        let (done, all, _) = looks(usize::MAX);
        done.unwrap();
        assert!(all > 8, "{all}");
        for most in [5, all / 2] {
            let (done, looked, files) = looks(most);
            assert!(matches!(done, Err(PackError::Stopped)), "{done:?}");
            assert_eq!((looked, files), (most + 1, Vec::new()));
        }
    }
}
