//! Images of known and of random trees, read by the letter of the format.

use std::collections::BTreeSet;

use gitrepo_core::testing::image::BlockSize;
use gitrepo_core::testing::image::Extent;
use gitrepo_core::testing::image::Modes;
use gitrepo_core::testing::image::View;
use gitrepo_tests::erofs;
use proptest::prelude::*;
use proptest::sample::Index;

use super::MANY_DEVICES;
use super::sample::BLOCK_SIZES;
use super::sample::GROUP;
use super::sample::Kind;
use super::sample::PLAIN;
use super::sample::Sample;
use super::samples;

fn assert_read(sample: &Sample, view: &View) -> erofs::Contents {
    let image = sample.build(view).unwrap();
    let contents = erofs::read(&image);
    assert_eq!(contents.block_size, sample.block_size.bytes());
    let (found, expected) = (&contents.entries, sample.expected(view));
    for (path, entry) in &expected {
        assert_eq!(found.get(path), Some(entry), "{}", path.escape_ascii());
    }
    assert_eq!(found.len(), expected.len());
    contents
}

#[test]
fn images_contain_their_trees_and_nothing_else() {
    for block_size in BLOCK_SIZES {
        for (name, sample) in samples(block_size) {
            let contents = assert_read(&sample, &PLAIN);
            let inodes = sample.nodes.len() + 1;
            match name {
                // The inode of 4 GiB - 1 is compact.
                "large" => assert_eq!((contents.extended, contents.chunked), (2, 3)),
                "wide" => assert_eq!((contents.extended, contents.chunked), (1, 0)),
                "odd" => assert_eq!((contents.extended, contents.chunked), (0, 7)),
                "many devices" => assert_eq!((contents.extended, contents.chunked), (0, 299)),
                _ => assert_eq!((contents.extended, contents.chunked), (0, 0)),
            }
            assert_eq!(assert_read(&sample, &GROUP).extended, inodes);
        }
    }
}

#[test]
fn an_entry_takes_less_than_a_hundred_bytes() {
    for block_size in BLOCK_SIZES {
        let mut sample = Sample::new(3, block_size);
        for number in 0..300 {
            let directory = sample.directory(None, format!("directory-{number}"));
            for file in 0..10 {
                sample.file(Some(directory), format!("source-file-{file}.rs"), number % 3, 3000);
            }
        }
        let image = sample.build(&PLAIN).unwrap();
        assert!(image.len() < 100 * sample.nodes.len(), "{} bytes", image.len());
    }
}

#[test]
fn an_image_has_room_for_65_535_devices() {
    for block_size in BLOCK_SIZES {
        let mut sample = Sample::new(65_535, block_size);
        sample.file(None, "first", 0, 1);
        sample.file(None, "last", 65_534, 5000);
        assert_read(&sample, &PLAIN);
    }
}

#[test]
fn a_deep_tree_does_not_overflow_the_stack() {
    let mut sample = Sample::new(0, BlockSize::B512);
    let mut parent = None;
    for _ in 0..200_000 {
        parent = Some(sample.directory(parent, "d"));
    }
    sample.build(&PLAIN).unwrap();
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[-.a]{1,3}".prop_map(String::into_bytes),
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..256),
    ]
    .prop_map(|name| name.into_iter().map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte }).collect())
    .prop_filter("a name of every directory", |name: &Vec<u8>| name != b"." && name != b"..")
}

/// What one entry becomes: its size and device, if it is a file.
#[derive(Debug, Clone)]
enum Shape {
    Directory,
    Symlink(usize),
    File(u64, Index),
}

fn shape(largest: u64) -> impl Strategy<Value = Shape> {
    let size = prop_oneof![4 => 0..5000_u64, 1 => 0..largest];
    prop_oneof![
        3 => Just(Shape::Directory),
        1 => prop_oneof![1..50_usize, 1..4096_usize].prop_map(Shape::Symlink),
        4 => (size, any::<Index>()).prop_map(|(size, device)| Shape::File(size, device)),
    ]
}

/// Trees whose entries are in any order, with files of less than `largest` bytes.
pub(super) fn tree(largest: u64) -> impl Strategy<Value = Sample> {
    let entries = prop::collection::vec((any::<Index>(), name(), shape(largest), any::<u32>()), 0..120);
    let devices = prop_oneof![4 => 1..5_usize, 1 => Just(MANY_DEVICES)];
    (entries, devices, prop::sample::select(&BLOCK_SIZES[..])).prop_map(|(entries, devices, block_size)| {
        let mut sample = Sample::new(devices, block_size);
        let (mut directories, mut names, mut keys) = (vec![None], BTreeSet::new(), Vec::new());
        for (parent, name, shape, key) in entries {
            let parent = *parent.get(&directories);
            if !names.insert((parent, name.clone())) {
                continue;
            }
            keys.push(key);
            match shape {
                Shape::Directory => directories.push(Some(sample.directory(parent, name))),
                Shape::Symlink(length) => {
                    sample.add(parent, name, Kind::Symlink(vec![b't'; length]));
                }
                Shape::File(size, device) => sample.file(parent, name, device.index(devices), size),
            }
        }
        shuffled(&sample, &keys)
    })
}

/// The same tree with its entries in the order of `keys`.
fn shuffled(sample: &Sample, keys: &[u32]) -> Sample {
    let mut order: Vec<_> = (0..sample.nodes.len()).collect();
    order.sort_by_key(|index| keys[*index]);
    let new = |old: usize| order.iter().position(|index| *index == old).unwrap();
    let nodes = order.iter().map(|&index| {
        let (parent, name, kind) = sample.nodes[index].clone();
        (parent.map(new), name, kind)
    });
    Sample { nodes: nodes.collect(), ..sample.clone() }
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1000), Just(65_535), Just(65_536), 0..u32::MAX]
}

pub(super) fn view() -> impl Strategy<Value = View> {
    let modes = prop_oneof![Just(Modes::PLAIN), Just(Modes::GROUP_WRITABLE)];
    (any::<i64>(), id(), id(), modes).prop_map(|(mtime, uid, gid, modes)| View { mtime, uid, gid, modes })
}

/// Entries that may be anything.
fn nonsense() -> impl Strategy<Value = Sample> {
    let number =
        || prop_oneof![0..4_u64, Just(512), Just(4096), Just(1 << 32), Just(1 << 41), Just(!511), any::<u64>()];
    let extent = (0..4_usize, number(), number()).prop_map(|(device, offset, size)| Extent { device, offset, size });
    let kind = prop_oneof![
        Just(Kind::Directory),
        extent.prop_map(|content| Kind::File { executable: true, content }),
        prop_oneof![Just(0), Just(1), 0..5000_usize].prop_map(|length| Kind::Symlink(vec![b't'; length])),
    ];
    let name = prop_oneof![8 => name(), 1 => prop::collection::vec(any::<u8>(), 0..300)];
    let parent = prop_oneof![Just(None), (0..10_usize).prop_map(Some)];
    let nodes = prop::collection::vec((parent, name, kind), 0..8);
    let devices = prop::collection::vec(number(), 0..4);
    (nodes, devices, prop::sample::select(&BLOCK_SIZES[..])).prop_map(|(nodes, devices, block_size)| Sample {
        nodes,
        devices,
        block_size,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_trees_are_read_as_they_are(sample in tree(1 << 36), view in view()) {
        assert_read(&sample, &view);
    }

    #[test]
    fn the_order_of_entries_makes_no_difference(sample in tree(1 << 36), keys in prop::collection::vec(any::<u32>(), 120)) {
        prop_assert_eq!(sample.build(&PLAIN).unwrap(), shuffled(&sample, &keys).build(&PLAIN).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn nonsense_is_refused_or_read_as_it_is(sample in nonsense()) {
        if sample.build(&PLAIN).is_ok() {
            assert_read(&sample, &PLAIN);
        }
    }
}
