//! Which objects a repository has.
//!
//! Their content is in its segments, where a blob is found by git's id. A file of the repository says under which id: a
//! line for each, `<sha256> <git's id> <size>`. Only a process that has hashed the content writes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;

use git2::Oid;

use super::ObjectId;

/// The file's name, in the repository.
pub(crate) const FILE: &str = "lfs";

/// Most bytes of the file: some 130,000 objects.
pub(crate) const LONGEST: u64 = 16 << 20;

/// Bytes of a line at most: two ids, a number of 64 bits and three separators.
const LONGEST_LINE: usize = 64 + 40 + 20 + 3;

/// An object whose content has been hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: ObjectId,
    /// In bytes.
    pub(crate) size: u64,
    /// The id that git gives a blob of this content.
    pub(crate) blob: Oid,
}

/// The objects that a repository has, or had: a segment may be gone.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<ObjectId, (u64, Oid)>);

impl Known {
    /// Reads what the repository knows. A damaged line is skipped: its object is fetched again.
    pub(crate) fn read(repository: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        match fs::File::open(repository.join(FILE)) {
            Ok(file) => drop(file.take(LONGEST).read_to_end(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let lines = text.split(|byte| *byte == b'\n').filter_map(parse);
        Ok(Self(lines.map(|Found { id, size, blob }| (id, (size, blob))).collect()))
    }

    /// Whether it knows of no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id that git gives the content of an object of this size.
    pub(crate) fn blob(&self, id: &ObjectId, size: u64) -> Option<Oid> {
        self.0.get(id).filter(|(known, _)| *known == size).map(|(_, blob)| *blob)
    }

    /// Adds objects. If there are too many for the file, others are forgotten.
    pub(crate) fn add(&mut self, found: &[Found]) {
        let most = usize::try_from(LONGEST).unwrap_or(usize::MAX) / LONGEST_LINE;
        if self.0.len() + found.len() > most {
            self.0.clear();
        }
        self.0.extend(found.iter().take(most).map(|Found { id, size, blob }| (*id, (*size, *blob))));
    }

    /// Keeps those whose blobs are wanted.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(Oid) -> bool) {
        self.0.retain(|_, (_, blob)| is_wanted(*blob));
    }

    /// Replaces the repository's file.
    pub(crate) fn write(&self, repository: &Path) -> io::Result<()> {
        let path = repository.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if self.0.is_empty() => return Ok(()),
            _ => {}
        }
        let text: String = self.0.iter().map(|(id, (size, blob))| format!("{id} {blob} {size}\n")).collect();
        fs::write(path, text)
    }
}

/// Whether this is a line of the file, without its end.
pub(crate) fn is_line(line: &[u8]) -> bool {
    parse(line).is_some()
}

fn parse(line: &[u8]) -> Option<Found> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (id, blob, size) = (ObjectId::parse(words.next()?)?, words.next()?, words.next()?);
    let is_exact = blob.len() == 40 && size.bytes().all(|byte| byte.is_ascii_digit()) && words.next().is_none();
    is_exact.then_some(Found { id, size: size.parse().ok()?, blob: Oid::from_str(blob).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u8) -> Found {
        let blob = Oid::from_bytes(&[number; 20]).unwrap();
        Found { id: ObjectId::from_bytes([number; 32]), size: number.into(), blob }
    }

    #[test]
    fn what_was_written_is_read_and_damage_costs_its_own_line() {
        let place = tempfile::tempdir().unwrap();
        assert!(Known::read(place.path()).unwrap().is_empty());
        let mut known = Known::default();
        known.add(&[found(1), found(2), found(3)]);
        known.write(place.path()).unwrap();
        let path = place.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().all(|line| is_line(line.as_bytes())), "{text}");
        fs::write(&path, text.replacen("0202", "02 02", 1)).unwrap();
        let mut read = Known::read(place.path()).unwrap();
        let blob = |read: &Known, number: u8| read.blob(&found(number).id, found(number).size);
        assert_eq!([1, 2, 3].map(|number| blob(&read, number)), [Some(found(1).blob), None, Some(found(3).blob)]);
        assert_eq!(read.blob(&found(1).id, 7), None, "another size is another object");
        read.retain(|blob| blob == found(3).blob);
        read.write(place.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        Known::default().write(place.path()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_line_is_exactly_that() {
        let line = format!("{} {} 12", "a".repeat(64), "b".repeat(40));
        assert!(is_line(line.as_bytes()));
        for bad in [&line[1..], &format!("{line} "), &line.replace(" 12", " -1"), &line.replace(' ', "  "), ""] {
            assert!(!is_line(bad.as_bytes()), "{bad:?}");
        }
    }
}
