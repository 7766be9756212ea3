//! The files that may change, and how.
//!
//! A remote can name one large blob by millions of paths in a few bytes. So a blob is converted once in each way, however
//! many files have it.

use std::collections::HashMap;
use std::rc::Rc;

use git2::Oid;

use super::convert::Conversion;
use crate::content::Extent;

/// Files and their conversions.
#[derive(Default)]
pub(super) struct Wanted {
    files: Vec<File>,
    /// Each one once: their names of encodings are the remote's, and may be long.
    conversions: Vec<Rc<Conversion>>,
    /// The number of each of them.
    known: HashMap<Rc<Conversion>, usize>,
}

/// A file that may change.
pub(super) struct File {
    /// Its number in the listing.
    pub(super) number: usize,
    id: Oid,
    extent: Extent,
    /// The number of its conversion.
    conversion: usize,
}

/// A blob, one of its conversions, and all files that are to become that. There is at least one.
pub(super) struct Task<'a> {
    pub(super) id: Oid,
    pub(super) extent: Extent,
    pub(super) conversion: &'a Conversion,
    pub(super) files: &'a [File],
}

impl Wanted {
    /// Adds a file by its number in the listing.
    pub(super) fn add(&mut self, number: usize, id: Oid, extent: Extent, conversion: Conversion) {
        let conversion = match self.known.get(&conversion) {
            Some(known) => *known,
            None => {
                let conversion = Rc::new(conversion);
                self.conversions.push(Rc::clone(&conversion));
                self.known.insert(conversion, self.conversions.len() - 1);
                self.conversions.len() - 1
            }
        };
        self.files.push(File { number, id, extent, conversion });
    }

    /// Each blob once with each of its conversions, in the order in which the blobs are on the disk.
    pub(super) fn tasks(&mut self) -> impl Iterator<Item = Task<'_>> {
        // Nothing may be in the place where the next blob begins.
        self.files.sort_unstable_by_key(|file| (file.extent.segment, file.extent.offset, file.id, file.conversion));
        let same = self.files.chunk_by(|one, other| (one.id, one.conversion) == (other.id, other.conversion));
        same.map(|files| {
            let File { id, extent, conversion, .. } = files[0];
            Task { id, extent, conversion: &self.conversions[conversion], files }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::snapshot::checkout::attributes::Attributes;
    use crate::snapshot::checkout::attributes::Macros;
    use crate::snapshot::checkout::attributes::Rules;
    use crate::snapshot::checkout::effort::Effort;
    use crate::snapshot::checkout::pattern::Subject;

    fn conversion(text: &str) -> Conversion {
        let (cancel, mut found) = (Cancel::new(), Attributes::default());
        let rules = Rules::parse(format!("* {text}\n").as_bytes(), b"");
        rules.apply(Subject::new(b"a"), &Macros::default(), &mut Effort::new(u64::MAX, &cancel), &mut found).unwrap();
        Conversion::of(&found).unwrap()
    }

    #[test]
    fn a_blob_is_converted_once_in_each_way() {
        let id = |byte: u8| Oid::from_bytes(&[byte; 20]).unwrap();
        let extent = |offset, length| Extent { segment: 0, offset, length };
        // The second one is empty.
        let blobs = [(id(3), extent(9, 5)), (id(2), extent(0, 0)), (id(1), extent(0, 9))];
        let ways = ["ident", "eol=crlf", "working-tree-encoding=UTF-16", "ident working-tree-encoding=UTF-16"];
        let mut wanted = Wanted::default();
        let mut expected = HashMap::new();
        for number in 0..1200 {
            let (blob, way) = (number % 3, number / 3 % 4);
            let (id, extent) = blobs[blob];
            wanted.add(number, id, extent, conversion(ways[way]));
            expected.entry((id, way)).or_insert_with(Vec::new).push(number);
        }
        let mut before = 0;
        for task in wanted.tasks() {
            let way = ways.iter().position(|way| conversion(way) == *task.conversion).unwrap();
            let mut numbers: Vec<_> = task.files.iter().map(|file| file.number).collect();
            numbers.sort_unstable();
            assert_eq!(expected.remove(&(task.id, way)), Some(numbers));
            assert!(blobs.contains(&(task.id, task.extent)));
            assert!(before <= task.extent.offset);
            before = task.extent.offset;
        }
        assert!(expected.is_empty());
    }
}
