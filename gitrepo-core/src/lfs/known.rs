//! Which objects a repository has.
//!
//! Their content is in its segments, where a blob is found by git's id. A file of the repository says under which id: a
//! line for each, `<sha256> <git's id> <size>`, the latest last. Only a process that has hashed the content writes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;

use git2::Oid;

use super::ObjectId;

/// The file's name, in the repository.
pub(crate) const FILE: &str = "lfs";

/// Its name until it is complete.
const DRAFT: &str = "tmp_lfs";

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

/// Most objects that are known.
const MOST: usize = LONGEST as usize / LONGEST_LINE;

/// The objects that a repository has, or had: a segment may be gone.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: BTreeMap<ObjectId, Place>,
    /// The number of the next object.
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    size: u64,
    blob: Oid,
    /// The later an object was added, the higher.
    number: u64,
}

impl Known {
    /// Reads what the repository knows. A damaged line is skipped: its object is fetched again.
    pub(crate) fn read(repository: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        match fs::File::open(repository.join(FILE)) {
            Ok(file) => drop(file.take(LONGEST).read_to_end(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut known = Self::default();
        found_in(&text).for_each(|found| known.insert(&found));
        Ok(known)
    }

    /// The text of the file with the objects of another such text added; `None` if it has no new ones.
    pub(crate) fn with(mut self, text: &[u8]) -> Option<String> {
        let new: Vec<_> = found_in(text).filter(|found| self.blob(&found.id, found.size) != Some(found.blob)).collect();
        self.add(&new);
        (!new.is_empty()).then(|| self.text())
    }

    fn text(&self) -> String {
        let mut lines: Vec<_> = self.objects.iter().collect();
        lines.sort_unstable_by_key(|(_, known)| known.number);
        lines.iter().map(|(id, known)| format!("{id} {} {}\n", known.blob, known.size)).collect()
    }

    /// Whether it knows of no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The id that git gives the content of an object of this size.
    pub(crate) fn blob(&self, id: &ObjectId, size: u64) -> Option<Oid> {
        self.objects.get(id).filter(|known| known.size == size).map(|known| known.blob)
    }

    /// Adds objects. If there are too many for the file, those that were added first are forgotten.
    pub(crate) fn add(&mut self, found: &[Found]) {
        self.add_up_to(MOST, found);
    }

    fn add_up_to(&mut self, most: usize, found: &[Found]) {
        found.iter().for_each(|found| self.insert(found));
        if let Some(surplus) = self.objects.len().checked_sub(most).filter(|surplus| *surplus > 0) {
            let mut numbers: Vec<u64> = self.objects.values().map(|known| known.number).collect();
            let (_, last, _) = numbers.select_nth_unstable(surplus - 1);
            let last = *last;
            self.objects.retain(|_, known| known.number > last);
        }
    }

    fn insert(&mut self, Found { id, size, blob }: &Found) {
        self.objects.insert(*id, Place { size: *size, blob: *blob, number: self.next });
        self.next += 1;
    }

    /// Keeps those whose blobs are wanted.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(Oid) -> bool) {
        self.objects.retain(|_, known| is_wanted(known.blob));
    }

    /// Replaces the repository's file, at once.
    pub(crate) fn write(&self, repository: &Path) -> io::Result<()> {
        let path = repository.join(FILE);
        if self.objects.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        // Whoever is killed here leaves the file as it was.
        let draft = repository.join(DRAFT);
        fs::write(&draft, self.text())?;
        fs::rename(draft, path)
    }
}

/// Whether this is a line of the file, without its end.
pub(crate) fn is_line(line: &[u8]) -> bool {
    parse(line).is_some()
}

/// The objects of a text. A damaged line is skipped.
fn found_in(text: &[u8]) -> impl Iterator<Item = Found> {
    text.split(|byte| *byte == b'\n').filter_map(parse)
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
    fn those_that_were_added_first_are_forgotten_when_there_are_too_many() {
        let place = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        // One that was added again is late.
        for numbers in [&[9, 1, 8][..], &[2, 9], &[3, 4]] {
            known.add_up_to(4, &numbers.iter().map(|number| found(*number)).collect::<Vec<_>>());
            known.write(place.path()).unwrap();
            known = Known::read(place.path()).unwrap();
        }
        let found = |number: &u8| known.blob(&found(*number).id, (*number).into()).is_some();
        assert_eq!((1..=9).filter(found).collect::<Vec<_>>(), [2, 3, 4, 9]);
        assert_eq!(place.path().read_dir().unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_another_list_has_is_added_to_what_is_known() {
        let known = |numbers: &[u8]| {
            let mut known = Known::default();
            known.add(&numbers.iter().map(|number| found(*number)).collect::<Vec<_>>());
            known
        };
        let (list, all) = (known(&[2, 3, 1]).text(), known(&[1, 2, 3]).text());
        assert_eq!(known(&[1]).with(list.as_bytes()), Some(all));
        assert_eq!(known(&[1, 2, 3]).with(list.as_bytes()), None);
        assert_eq!(known(&[1]).with(b"nonsense\n"), None);
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
