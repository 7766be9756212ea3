//! The seal: the `stat` of every entry of a finished tree, which reveals later changes without reading any content.
//!
//! A privileged pod can remount its volume read-write and change a tree that others see. For every change the kernel
//! sets the change time (`ctime`) of the file, or of the directory that lost or gained a name. No call can set that
//! time back: only changing the clock could. Reading changes nothing that is recorded here.
//!
//! The first record identifies the sealed directory by its inode and birth time. A tree copied elsewhere, by a backup
//! or onto a new disk, has different ones, and the seal does not apply to it. Every further record is `<mode> <names>
//! <uid> <gid> <size> <ctime> <nanoseconds>\t<path>\0`, in the order of a walk, the tree's root first.

use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::stat::FileStat;
use nix::sys::stat::fstat;
use nix::sys::stat::fstatat;

use super::beneath::Beneath;
use super::walk;
use super::walk::Found;
use super::walk::Visitor;

const VERSION: &str = "gitrepo seal 1";

/// Longest record that is read. Paths of a tree are far shorter.
const LONGEST: u64 = 1 << 20;

/// The result of checking a sealed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All checked entries are as sealed. The offset is where to continue, `None` at the end.
    Same(Option<u64>),
    /// Something has changed, as the text describes.
    Changed(String),
    /// The seal is of another directory, or malformed.
    Unknown,
}

/// Writes the seal of the finished tree at `tree`.
pub(crate) fn write(tree: &Path, to: &mut dyn Write) -> io::Result<()> {
    let root = Beneath::new(tree)?;
    write!(to, "{VERSION} {}\0", identity(tree)?)?;
    record(to, &fstat(&root)?, c"")?;
    walk::walk(&root, &mut Sealing { to })
}

/// Checks entries against the seal, from the first record at or after `offset`, while `more` returns true; at least
/// one.
pub(crate) fn check(seal: &Path, tree: &Path, offset: u64, mut more: impl FnMut() -> bool) -> io::Result<Verdict> {
    let mut seal = BufReader::new(File::open(seal)?);
    let first = next(&mut seal)?.unwrap_or_default();
    let identity = match identity(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(changed(c"", "is gone")),
        identity => identity?,
    };
    if first != format!("{VERSION} {identity}").as_bytes() {
        return Ok(Verdict::Unknown);
    }
    if offset > seal.stream_position()? {
        // The end of the previous record, or the middle of one.
        seal.seek(SeekFrom::Start(offset - 1))?;
        next(&mut seal)?;
    }
    let root = Beneath::new(tree)?;
    let mut directory: Option<(CString, OwnedFd)> = None;
    loop {
        let Some(record) = next(&mut seal)? else { return Ok(Verdict::Same(None)) };
        let Some((facts, path)) = split(&record) else { return Ok(Verdict::Unknown) };
        match examine(&root, &mut directory, &path)? {
            Some(found) if facts_of(&found) == facts => {}
            Some(found) => return Ok(changed(&path, difference(facts, &found))),
            None => return Ok(changed(&path, "is gone")),
        }
        if !more() {
            return Ok(Verdict::Same(Some(seal.stream_position()?)));
        }
    }
}

/// Returns the inode and the birth time of a directory, which never change. Without birth times, only the inode.
pub(super) fn identity(tree: &Path) -> io::Result<String> {
    let found = std::fs::symlink_metadata(tree)?;
    let birth = found.created().ok().and_then(|birth| birth.duration_since(SystemTime::UNIX_EPOCH).ok());
    let birth = birth.map_or("-".to_owned(), |birth| format!("{}.{:09}", birth.as_secs(), birth.subsec_nanos()));
    Ok(format!("{} {birth}", found.ino()))
}

struct Sealing<'a> {
    to: &'a mut dyn Write,
}

impl Visitor for Sealing<'_> {
    type Error = io::Error;

    fn visit(&mut self, found: &Found<'_>) -> io::Result<()> {
        record(self.to, &found.stat, found.path)
    }

    fn failed(&self, _action: &'static str, _path: &CStr, error: Errno) -> io::Error {
        error.into()
    }
}

fn record(to: &mut dyn Write, stat: &FileStat, path: &CStr) -> io::Result<()> {
    to.write_all(facts_of(stat).as_bytes())?;
    to.write_all(b"\t")?;
    to.write_all(path.to_bytes_with_nul())
}

/// Returns the recorded facts of an entry. For a directory, link count and size depend on the filesystem and are left
/// out.
fn facts_of(stat: &FileStat) -> String {
    let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let (names, size) = if is_directory { (0, 0) } else { (stat.st_nlink, stat.st_size) };
    let FileStat { st_mode, st_uid, st_gid, st_ctime, st_ctime_nsec, .. } = stat;
    format!("{st_mode:o} {names} {st_uid} {st_gid} {size} {st_ctime} {st_ctime_nsec}")
}

fn difference(sealed: &str, found: &FileStat) -> &'static str {
    const FIELDS: [&str; 5] = [
        "has another mode",
        "has another number of names",
        "has another owner",
        "has another group",
        "has another size",
    ];
    let found = facts_of(found);
    let differs = sealed.split(' ').zip(found.split(' ')).position(|(sealed, found)| sealed != found);
    differs.and_then(|at| FIELDS.get(at)).copied().unwrap_or("was changed (its ctime differs)")
}

fn changed(path: &CStr, how: &str) -> Verdict {
    let path = match path.to_bytes() {
        b"" => "the root of the tree".to_owned(),
        path => format!("{:?}", String::from_utf8_lossy(path)),
    };
    Verdict::Changed(format!("{path} {how}"))
}

/// Examines the entry itself, never a link's target; `None` if it is missing.
fn examine(root: &Beneath, directory: &mut Option<(CString, OwnedFd)>, path: &CStr) -> io::Result<Option<FileStat>> {
    let absent = |error| match error {
        // A parent directory that is now a link or a file counts as missing.
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV => Ok(None),
        error => Err(io::Error::from(error)),
    };
    let bytes = path.to_bytes();
    if bytes.is_empty() {
        return Ok(Some(fstat(root)?));
    }
    let (parent, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&b""[..], bytes),
    };
    if directory.as_ref().is_none_or(|(open, _)| open.to_bytes() != parent) {
        let parent = CString::new(parent)?;
        match root.open(&parent) {
            Ok(opened) => *directory = Some((parent, opened)),
            Err(error) => return absent(error),
        }
    }
    let Some((_, opened)) = directory else { return Ok(None) };
    fstatat(&*opened, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(Some).or_else(absent)
}

/// Reads the next record without its NUL; `None` at the end.
fn next(seal: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut record = Vec::new();
    seal.by_ref().take(LONGEST).read_until(0, &mut record)?;
    if record.is_empty() {
        return Ok(None);
    }
    if record.last() == Some(&0) {
        record.pop();
    }
    Ok(Some(record))
}

fn split(record: &[u8]) -> Option<(&str, CString)> {
    let at = record.iter().position(|byte| *byte == b'\t')?;
    let facts = std::str::from_utf8(&record[..at]).ok()?;
    let is_whole = facts.split(' ').count() == 7;
    is_whole.then_some((facts, CString::new(&record[at + 1..]).ok()?))
}

#[cfg(test)]
mod tests;
