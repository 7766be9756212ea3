//! Tree objects, as git stores a directory.

use git2::Oid;

/// The mode of a directory.
const TREE: u32 = 0o040000;

/// The type of an entry other than a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryMode {
    File,
    Executable,
    Symlink,
    Submodule,
}

impl EntryMode {
    /// The type for git's mode; `None` for a directory, and for modes that git does not write.
    fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            // Early versions of git kept the group's write bit.
            0o100644 | 0o100664 => Some(Self::File),
            0o100755 => Some(Self::Executable),
            0o120000 => Some(Self::Symlink),
            0o160000 => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// The bytes of a tree object: a sequence of `<mode in octal> <name>\0<20 bytes of id>`.
pub(crate) struct TreeObject<'a>(pub(crate) &'a [u8]);

/// One entry, unchecked: names and modes may be anything.
pub(crate) struct TreeEntry<'a> {
    /// The mode, which git shows in octal.
    pub(crate) bits: u32,
    pub(crate) name: &'a [u8],
    pub(crate) id: Oid,
}

impl TreeEntry<'_> {
    pub(crate) fn is_tree(&self) -> bool {
        self.bits == TREE
    }

    /// `None` for a directory, and for modes that git does not write.
    pub(crate) fn mode(&self) -> Option<EntryMode> {
        EntryMode::from_bits(self.bits)
    }

    /// git's order: that of the paths, with each tree followed by its content.
    pub(crate) fn sort_key(&self) -> impl Iterator<Item = u8> {
        self.name.iter().copied().chain(self.is_tree().then_some(b'/'))
    }
}

impl<'a> Iterator for TreeObject<'a> {
    type Item = Result<TreeEntry<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = parse_entry(self.0);
        // What follows a broken entry cannot be parsed.
        self.0 = entry.as_ref().map_or(&[], |(_, rest)| rest);
        Some(entry.map(|(entry, _)| entry).ok_or("it is malformed"))
    }
}

fn parse_entry(bytes: &[u8]) -> Option<(TreeEntry<'_>, &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let bits = bytes[..space].iter().try_fold(0_u32, |bits, digit| match digit {
        b'0'..=b'7' => bits.checked_mul(8)?.checked_add(u32::from(digit - b'0')),
        _ => None,
    })?;
    let rest = &bytes[space + 1..];
    let nul = rest.iter().position(|&byte| byte == 0)?;
    let (id, after) = rest[nul + 1..].split_at_checked(20)?;
    Some((TreeEntry { bits, name: &rest[..nul], id: Oid::from_bytes(id).ok()? }, after))
}
