//! Directories: blocks of entries, each with its own names behind them.

use super::BlockSize;
use super::Kind;
use super::fields::Fields;
use super::hierarchy::Hierarchy;

/// Bytes of an entry without its name.
const LENGTH: usize = 12;

/// An entry of a directory.
#[derive(Clone, Copy)]
pub(super) struct Dirent<'a> {
    name: &'a [u8],
    /// Its number in the [`Hierarchy`].
    number: usize,
    file_type: FileType,
}

/// The type of an entry, as in the kernel's `FT_*`.
#[derive(Clone, Copy)]
enum FileType {
    Regular = 1,
    Directory = 2,
    Symlink = 7,
}

/// All entries of a directory, sorted by the bytes of their names, "." and ".." among them.
pub(super) fn dirents<'a>(hierarchy: &Hierarchy<'a>, directory: usize) -> Vec<Dirent<'a>> {
    let numbers = hierarchy.entries(directory);
    let mut dirents = Vec::with_capacity(numbers.len() + 2);
    dirents.extend(numbers.iter().map(|&number| Dirent {
        name: hierarchy.name(number),
        number,
        file_type: FileType::of(hierarchy.kind(number)),
    }));
    for (name, number) in [(&b"."[..], directory), (b"..", hierarchy.parent(directory))] {
        let place = dirents.partition_point(|dirent| dirent.name < name);
        dirents.insert(place, Dirent { name, number, file_type: FileType::Directory });
    }
    dirents
}

impl FileType {
    fn of(kind: Kind<'_>) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::File { .. } => Self::Regular,
            Kind::Symlink { .. } => Self::Symlink,
        }
    }
}

/// Divides entries into those of each block. The names are short enough that a block takes at least one.
pub(super) fn blocks<'d, 'a>(
    mut dirents: &'d [Dirent<'a>],
    block_size: BlockSize,
) -> impl Iterator<Item = &'d [Dirent<'a>]> {
    std::iter::from_fn(move || {
        let mut length = 0;
        let fits = |dirent: &&Dirent<'_>| {
            length += LENGTH + dirent.name.len();
            length <= block_size.bytes()
        };
        let (block, rest) = dirents.split_at(dirents.iter().take_while(fits).count());
        dirents = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// Bytes of a directory: its blocks, and what the entries of the last take.
pub(super) fn size(dirents: &[Dirent<'_>], block_size: BlockSize) -> usize {
    let (count, last) = blocks(dirents, block_size).fold((0, 0), |(count, _), block| (count + 1, length(block)));
    (count - 1) * block_size.bytes() + last
}

/// Bytes that the entries of one block take.
fn length(block: &[Dirent<'_>]) -> usize {
    block.iter().map(|dirent| LENGTH + dirent.name.len()).sum()
}

/// Writes the entries of one block. `node_id` tells where the inode of a number is.
pub(super) fn write(block: &[Dirent<'_>], node_id: impl Fn(usize) -> u64, into: &mut [u8]) {
    let (entries, mut names) = into.split_at_mut(block.len() * LENGTH);
    let (mut entries, mut name_offset) = (Fields(entries), block.len() * LENGTH);
    for dirent in block {
        entries.put(node_id(dirent.number).to_le_bytes());
        // A block is small enough for 16 bits.
        entries.put((name_offset as u16).to_le_bytes());
        entries.put([dirent.file_type as u8]);
        entries.skip(1);
        let (name, rest) = names.split_at_mut(dirent.name.len());
        name.copy_from_slice(dirent.name);
        names = rest;
        name_offset += dirent.name.len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Node;
    use super::*;

    fn directories<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<Node<'a>> {
        names.into_iter().map(|name| Node { parent: None, name, kind: Kind::Directory, time: None }).collect()
    }

    #[test]
    fn entries_are_in_the_order_of_their_bytes() {
        // git's order has "a" behind "a.b", because it ends in a slash there.
        let nodes = directories([&b"a.b"[..], b"\xff", b"a", b"...", b".-", b"-", b"a0", b".a"]);
        let hierarchy = Hierarchy::new(&nodes).unwrap();
        let names: Vec<_> = dirents(&hierarchy, 0).iter().map(|dirent| dirent.name).collect();
        assert_eq!(names, [&b"-"[..], b".", b".-", b"..", b"...", b".a", b"a", b"a.b", b"a0", b"\xff"]);
    }

    #[test]
    fn blocks_are_filled_and_only_the_last_is_partial() {
        let names: Vec<_> = (0..100).map(|number| format!("{number:0>52}").into_bytes()).collect();
        let nodes = directories(names.iter().map(Vec::as_slice));
        let hierarchy = Hierarchy::new(&nodes).unwrap();
        let dirents = dirents(&hierarchy, 0);
        // "." and ".." take 27 bytes, each other entry 64: eight are a whole block.
        let counts: Vec<_> = blocks(&dirents, BlockSize::B512).map(<[_]>::len).collect();
        assert_eq!(counts, [&[9][..], &[8; 11], &[5]].concat());
        assert_eq!(size(&dirents, BlockSize::B512), 12 * 512 + 5 * 64);
        assert_eq!(size(&dirents[2..10], BlockSize::B512), 512);
        assert_eq!(size(&dirents, BlockSize::B4096), 4096 + (102 - 65) * 64);
    }

    #[test]
    fn an_entry_has_its_id_type_and_name() {
        let nodes = [Node { parent: None, name: b"link", kind: Kind::Symlink { target: b"x" }, time: None }];
        let hierarchy = Hierarchy::new(&nodes).unwrap();
        let mut block = [0xff; 48];
        write(&dirents(&hierarchy, 0), |number| 256 + number as u64, &mut block[..43]);
        let entries = [
            &b"\0\x01\0\0\0\0\0\0\x24\0\x02\xff"[..],
            b"\0\x01\0\0\0\0\0\0\x25\0\x02\xff",
            b"\x01\x01\0\0\0\0\0\0\x27\0\x07\xff",
            b"...link",
            &[0xff; 5],
        ];
        assert_eq!(block, entries.concat().as_slice());
    }
}
