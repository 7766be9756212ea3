//! Objects that git itself would not create.

use std::fs::File;

use super::Repository;
use crate::git;

/// An entry of a tree object: mode as written (`100644`, `40000`), name, object id.
pub struct RawEntry<'a>(pub &'a str, pub &'a [u8], pub &'a str);

impl Repository {
    /// Stores a blob and returns its id.
    pub fn blob(&self, content: &[u8]) -> String {
        git::text(git::output_with_input(&mut self.git(["hash-object", "-w", "--stdin"]), content))
    }

    /// Stores a blob of `bytes` zeros, which compress to a thousandth, and returns its id.
    pub fn zeros(&self, bytes: u64) -> String {
        let path = self.root().join("zeros");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        let id = git::line(&mut self.git(["hash-object", "-w", "--no-filters", "../zeros"]));
        std::fs::remove_file(path).unwrap();
        id
    }

    /// Stores a tree with exactly these entries in this order, valid or not, and returns its id.
    pub fn raw_tree(&self, entries: &[RawEntry<'_>]) -> String {
        let mut content = Vec::new();
        for RawEntry(mode, name, id) in entries {
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            content.extend(
                id.as_bytes().chunks(2).map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()),
            );
        }
        self.raw_object("tree", &content)
    }

    /// Stores an object with any content, and returns its id.
    pub fn raw_object(&self, kind: &str, content: &[u8]) -> String {
        let mut hash = self.git(["hash-object", "-t", kind, "-w", "--stdin", "--literally"]);
        git::text(git::output_with_input(&mut hash, content))
    }

    /// Commits an existing tree, without parent and without moving a ref.
    pub fn commit_tree(&self, tree: &str) -> String {
        git::line(&mut self.git(["commit-tree", "-m", "A tree", tree]))
    }
}
