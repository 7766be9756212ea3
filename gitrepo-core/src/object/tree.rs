//! Tree objects, as git stores a directory.

use git2::Oid;

/// The bits of a mode that tell the type (`S_IFMT`).
const TYPE: u32 = 0o170000;

/// The types of a mode. Every other type is a submodule's.
const TREE: u32 = 0o040000;
const REGULAR: u32 = 0o100000;
const LINK: u32 = 0o120000;

/// The bit that makes a file executable: the owner's.
const EXECUTABLE: u32 = 0o100;

/// The type of an entry other than a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryMode {
    File,
    Executable,
    Symlink,
    Submodule,
}

impl EntryMode {
    /// The type for a mode; `None` for a directory. Any mode has one: git reads modes that it never writes by this same
    /// rule (`canon_mode` of its `object.h`).
    fn from_bits(bits: u32) -> Option<Self> {
        match bits & TYPE {
            TREE => None,
            REGULAR if bits & EXECUTABLE != 0 => Some(Self::Executable),
            REGULAR => Some(Self::File),
            LINK => Some(Self::Symlink),
            _ => Some(Self::Submodule),
        }
    }
}

/// The bytes of a tree object: a sequence of `<mode in octal> <name>\0<20 bytes of id>`.
pub(crate) struct TreeObject<'a>(pub(crate) &'a [u8]);

/// One entry, unchecked: its name may be anything.
pub(crate) struct TreeEntry<'a> {
    /// The mode, which git shows in octal.
    bits: u32,
    pub(crate) name: &'a [u8],
    pub(crate) id: Oid,
}

impl TreeEntry<'_> {
    pub(crate) fn is_tree(&self) -> bool {
        self.bits & TYPE == TREE
    }

    /// `None` for a directory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_by_gits_rule() {
        for (bits, mode) in [
            (0o100644, Some(EntryMode::File)),
            (0o100664, Some(EntryMode::File)),
            (0o100666, Some(EntryMode::File)),
            (0o100640, Some(EntryMode::File)),
            (0o100655, Some(EntryMode::File)),
            (0o100755, Some(EntryMode::Executable)),
            (0o100775, Some(EntryMode::Executable)),
            (0o100700, Some(EntryMode::Executable)),
            (0o120000, Some(EntryMode::Symlink)),
            (0o120777, Some(EntryMode::Symlink)),
            (0o040000, None),
            (0o040755, None),
            (0o160000, Some(EntryMode::Submodule)),
            (0o010644, Some(EntryMode::Submodule)),
            (0o644, Some(EntryMode::Submodule)),
        ] {
            assert_eq!(EntryMode::from_bits(bits), mode, "{bits:o}");
        }
    }
}
