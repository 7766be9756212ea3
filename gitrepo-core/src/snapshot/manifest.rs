//! The manifest: the blob of each file of a snapshot.
//!
//! The records are those of `git ls-tree -r -l -z` without padding, in its order, with paths as git prints them:
//! `<mode> blob <id> <size>\t<path>\0`, and `160000 commit <id> -\t<path>\0` for a submodule's directory.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::Write;

use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::sys::stat::Mode;

use super::TreeSummary;
use super::beneath::Beneath;
use super::listing::Entry;
use super::listing::Listing;
use crate::object::EntryMode;

/// The manifest's name, beside the tree.
pub(crate) const NAME: &str = "manifest";

/// Creates the manifest in an empty directory.
pub(crate) fn create(staging: &Beneath) -> io::Result<File> {
    let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let file = File::from(fcntl::openat(staging, NAME, new, mode)?);
    stat::fchmod(&file, mode)?;
    Ok(file)
}

/// Bytes of a record besides its path: mode, kind, id, the largest size, separators.
const OVERHEAD: u64 = 6 + 1 + 6 + 1 + 40 + 1 + 20 + 1 + 1;

/// Writes one record for each entry; `sizes` is parallel to the listing's entries.
pub(crate) fn write(to: &mut impl Write, listing: &Listing, sizes: impl Iterator<Item = u64>) -> io::Result<()> {
    for (entry, size) in listing.entries.iter().zip(sizes) {
        let Entry { mode, id, .. } = entry;
        match mode {
            EntryMode::File => write!(to, "100644 blob {id} {size}\t")?,
            EntryMode::Executable => write!(to, "100755 blob {id} {size}\t")?,
            EntryMode::Symlink => write!(to, "120000 blob {id} {size}\t")?,
            EntryMode::Submodule => write!(to, "160000 commit {id} -\t")?,
        }
        to.write_all(&listing.path_in_tree(entry))?;
        to.write_all(b"\0")?;
    }
    Ok(())
}

/// Maximum size in bytes of a manifest with `entries` entries.
pub(crate) fn longest(entries: u64, path_length: u32) -> u64 {
    entries.saturating_mul(OVERHEAD + u64::from(path_length))
}

/// One record of a manifest.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    mode: EntryMode,
    /// 0 for a submodule.
    size: u64,
    path: &'a [u8],
}

/// Counts a manifest's content: files, links, submodules (as directories) and bytes. Fails with a reason if it is
/// malformed.
pub(crate) fn count(mut from: impl BufRead, longest_path: u32) -> io::Result<Result<TreeSummary, &'static str>> {
    let longest = OVERHEAD + u64::from(longest_path);
    let mut counted = TreeSummary::default();
    let (mut bytes, mut previous) = (Vec::new(), Vec::new());
    loop {
        bytes.clear();
        // One byte more, so that a record that is too long does not look like one that just fits.
        io::Read::take(&mut from, longest + 1).read_until(0, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(Ok(counted));
        }
        let Some(Record { mode, size, path }) = parse(&bytes) else {
            return Ok(Err("it has a malformed record"));
        };
        if path <= previous.as_slice() {
            return Ok(Err("its paths are not in order"));
        }
        match mode {
            EntryMode::File | EntryMode::Executable => counted.files += 1,
            EntryMode::Symlink => counted.symlinks += 1,
            EntryMode::Submodule => counted.directories += 1,
        }
        counted.bytes = counted.bytes.saturating_add(size);
        previous.clear();
        previous.extend_from_slice(path);
    }
}

fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let record = bytes.strip_suffix(b"\0")?;
    let tab = record.iter().position(|&byte| byte == b'\t')?;
    let path = &record[tab + 1..];
    let mut fields = std::str::from_utf8(&record[..tab]).ok()?.split(' ');
    let (mode, kind, id, size) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if !is_id(id) || path.is_empty() || fields.next().is_some() {
        return None;
    }
    let (mode, size) = match (mode, kind, size) {
        ("100644", "blob", size) => (EntryMode::File, size.parse().ok()?),
        ("100755", "blob", size) => (EntryMode::Executable, size.parse().ok()?),
        ("120000", "blob", size) => (EntryMode::Symlink, size.parse().ok()?),
        ("160000", "commit", "-") => (EntryMode::Submodule, 0),
        _ => return None,
    };
    Some(Record { mode, size, path })
}

/// Whether this is an id as git prints it.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    fn count_text(text: &str) -> Result<TreeSummary, &'static str> {
        count(text.as_bytes(), 4096).unwrap()
    }

    #[test]
    fn a_manifest_is_counted() {
        let text = format!(
            "100644 blob {ID} 3\ta\0100755 blob {ID} 4\tb\nc\0120000 blob {ID} 5\td\te\0160000 commit {ID} -\tf/g\0"
        );
        assert_eq!(count_text(&text), Ok(TreeSummary { files: 2, symlinks: 1, directories: 1, bytes: 12 }));
        assert_eq!(count_text(""), Ok(TreeSummary::default()));
    }

    #[test]
    fn a_malformed_manifest_is_refused() {
        for text in [
            "\0".to_owned(),
            format!("100644 blob {ID} 3\ta"),
            format!("100644 blob {ID} 3 a\0"),
            format!("100644 blob {ID} 3\t\0"),
            format!("100644 blob {ID} -3\ta\0"),
            format!("100644 blob {ID} 3 3\ta\0"),
            format!("100644 tree {ID} 3\ta\0"),
            format!("104755 blob {ID} 3\ta\0"),
            format!("160000 commit {ID} 3\ta\0"),
            format!("100644 blob {} 3\ta\0", &ID[1..]),
            format!("100644 blob {ID} 3\t{}\0", "x".repeat(5000)),
            format!("100644 blob {ID} 3\tb\0100644 blob {ID} 3\ta\0"),
            format!("100644 blob {ID} 3\ta\0100644 blob {ID} 3\ta\0"),
        ] {
            assert!(count_text(&text).is_err(), "{text:?}");
        }
    }
}
