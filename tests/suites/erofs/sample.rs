//! Trees to make images of, with their content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::testing::image;
use gitrepo_core::testing::image::BlockSize;
use gitrepo_core::testing::image::Extent;
use gitrepo_core::testing::image::ImageError;
use gitrepo_core::testing::image::Modes;
use gitrepo_core::testing::image::Node;
use gitrepo_core::testing::image::Tree;
use gitrepo_core::testing::image::View;
use gitrepo_tests::erofs::Content;
use gitrepo_tests::erofs::Entry;

pub(super) const BLOCK_SIZES: [BlockSize; 2] = [BlockSize::B512, BlockSize::B4096];

/// As a checkout by root.
pub(super) const PLAIN: View = View { mtime: 1_700_000_000, uid: 0, gid: 0, modes: Modes::PLAIN };

/// For an `fsGroup`, with numbers that need extended inodes, and a time before 1970.
pub(super) const GROUP: View = View { mtime: -12_345, uid: 65_536, gid: 4_000_000_000, modes: Modes::GROUP_WRITABLE };

/// Files up to this length are written and compared whole, larger ones around their ends and every 4 GiB.
const WHOLE: u64 = 8 << 20;

/// Bytes around such a place.
const AROUND: u64 = 16 << 10;

/// Bytes of content that are made at once.
const WORD: u64 = 8;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Directory,
    File { executable: bool, content: Extent },
    Symlink(Vec<u8>),
}

/// A tree that is made entry by entry. Each device is a file of its own bytes.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) nodes: Vec<(Option<usize>, Vec<u8>, Kind)>,
    pub(super) devices: Vec<u64>,
    pub(super) block_size: BlockSize,
}

impl Sample {
    pub(super) fn new(devices: usize, block_size: BlockSize) -> Self {
        Self { nodes: Vec::new(), devices: vec![0; devices], block_size }
    }

    /// Adds an entry, and returns its index.
    pub(super) fn add(&mut self, parent: Option<usize>, name: impl AsRef<[u8]>, kind: Kind) -> usize {
        self.nodes.push((parent, name.as_ref().to_owned(), kind));
        self.nodes.len() - 1
    }

    pub(super) fn directory(&mut self, parent: Option<usize>, name: impl AsRef<[u8]>) -> usize {
        self.add(parent, name, Kind::Directory)
    }

    /// Adds a link in the root.
    pub(super) fn symlink(&mut self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        self.add(None, name, Kind::Symlink(target.as_ref().to_owned()));
    }

    /// Adds a file whose bytes follow those that the device has already.
    pub(super) fn file(&mut self, parent: Option<usize>, name: impl AsRef<[u8]>, device: usize, size: u64) {
        let executable = self.nodes.len() % 3 == 1;
        let offset = self.devices[device];
        self.devices[device] += size.next_multiple_of(self.block_size.bytes() as u64);
        self.add(parent, name, Kind::File { executable, content: Extent { device, offset, size } });
    }

    pub(super) fn build(&self, view: &View) -> Result<Vec<u8>, ImageError> {
        let nodes = self.nodes.iter().map(|(parent, name, kind)| {
            let kind = match kind {
                Kind::Directory => image::Kind::Directory,
                Kind::File { executable, content } => image::Kind::File { executable: *executable, content: *content },
                Kind::Symlink(target) => image::Kind::Symlink { target },
            };
            Node { parent: *parent, name, kind, time: None }
        });
        let nodes: Vec<_> = nodes.collect();
        image::build(&Tree { nodes: &nodes, devices: &self.devices, block_size: self.block_size }, view, &[7; 16])
    }

    /// What a filesystem with this view shows.
    pub(super) fn expected(&self, view: &View) -> BTreeMap<Vec<u8>, Entry> {
        let &View { mtime, uid, gid, modes } = view;
        let entry = |mode: u32, content| Entry { mode, uid, gid, links: 1, mtime, content };
        let directory = || entry(0o040000 | u32::from(modes.directory), Content::Directory);
        let mut expected = BTreeMap::from([(Vec::new(), Entry { links: 2, ..directory() })]);
        for (index, (parent, _, kind)) in self.nodes.iter().enumerate() {
            let entry = match kind {
                Kind::Directory => {
                    let parent = parent.map_or(Vec::new(), |parent| self.path(parent));
                    // In any order: a directory may come before the one that it is in.
                    expected.entry(parent).or_insert_with(|| Entry { links: 2, ..directory() }).links += 1;
                    expected.entry(self.path(index)).or_insert_with(|| Entry { links: 2, ..directory() });
                    continue;
                }
                Kind::Symlink(target) => entry(0o120777, Content::Symlink(target.clone())),
                Kind::File { executable, content } => {
                    let mode = if *executable { modes.executable } else { modes.file };
                    let place = (content.size > 0).then_some((content.device, content.offset));
                    entry(0o100000 | u32::from(mode), Content::File { size: content.size, place })
                }
            };
            expected.insert(self.path(index), entry);
        }
        expected
    }

    /// The path of an entry, without a slash at its beginning.
    fn path(&self, index: usize) -> Vec<u8> {
        let parent = |(parent, ..): &&(Option<usize>, Vec<u8>, Kind)| parent.map(|parent| &self.nodes[parent]);
        let mut names: Vec<_> =
            std::iter::successors(self.nodes.get(index), parent).map(|(_, name, _)| name.as_slice()).collect();
        names.reverse();
        names.join(&b'/')
    }

    /// Writes the devices into a directory.
    pub(super) fn write_devices(&self, directory: &Path) -> Vec<PathBuf> {
        let paths: Vec<_> = (0..self.devices.len()).map(|device| directory.join(device.to_string())).collect();
        let files: Vec<_> = paths.iter().map(|path| File::create(path).unwrap()).collect();
        for (file, length) in files.iter().zip(&self.devices) {
            file.set_len(*length).unwrap();
        }
        for content in self.files().map(|(_, content)| content) {
            for (begin, length) in compared(content.size) {
                let bytes = bytes(content.device, content.offset + begin, length);
                files[content.device].write_all_at(&bytes, content.offset + begin).unwrap();
            }
        }
        paths
    }

    /// Fails unless each file below `root` has its content.
    pub(super) fn assert_content(&self, root: &Path) {
        for (index, content) in self.files() {
            let path = root.join(OsStr::from_bytes(&self.path(index)));
            let file = File::open(&path).unwrap();
            for (begin, length) in compared(content.size) {
                let mut found = vec![0; length];
                file.read_exact_at(&mut found, begin).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let expected = bytes(content.device, content.offset + begin, length);
                assert!(found == expected, "{} is wrong between {begin} and {length} bytes on", path.display());
            }
            assert_eq!(file.read_at(&mut [0], content.size).unwrap(), 0, "{} has an end", path.display());
        }
    }

    fn files(&self) -> impl Iterator<Item = (usize, &Extent)> {
        self.nodes.iter().enumerate().filter_map(|(index, (_, _, kind))| match kind {
            Kind::File { content, .. } => Some((index, content)),
            _ => None,
        })
    }
}

/// The parts of a file of this size that are compared: begin and length.
fn compared(size: u64) -> Vec<(u64, usize)> {
    let part = |begin: u64, end: u64| (begin, usize::try_from(end - begin).unwrap());
    if size <= WHOLE {
        return vec![part(0, size)];
    }
    let middle = (1..).map(|count| count << 32).take_while(|place| *place < size - AROUND);
    let places = middle.map(|place| part(place - AROUND, place + AROUND));
    let end = part((size - AROUND) / WORD * WORD, size);
    [part(0, AROUND)].into_iter().chain(places).chain([end]).collect()
}

/// The bytes of a device from `begin` on: different on each device, and from place to place.
fn bytes(device: usize, begin: u64, length: usize) -> Vec<u8> {
    assert_eq!(begin % WORD, 0);
    let mut bytes = Vec::with_capacity(length + 8);
    for number in begin / WORD..(begin + length as u64).div_ceil(WORD) {
        let mixed = (number << 8 | device as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bytes.extend_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
