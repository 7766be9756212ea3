//! The content of a commit, according to git.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Repository;
use crate::git;

/// A record of `git ls-tree -r -l -z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Six octal digits: `100644`, `100755`, `120000` or `160000`.
    pub mode: String,
    /// The id of the blob, or of the submodule's commit.
    pub id: String,
    /// In bytes; 0 for a submodule.
    pub size: u64,
    /// Relative to the listed tree, with slashes.
    pub path: Vec<u8>,
}

impl Repository {
    /// All entries except directories in the tree of `commit`, or in its `subdirectory` (`.` for all), in git's order.
    pub fn list(&self, commit: &str, subdirectory: &str) -> Vec<Listed> {
        self.ls_tree(&["-r", "-l"], commit, subdirectory).iter().map(|record| listed(record)).collect()
    }

    /// The paths of all directories in the same tree, including empty ones and submodules.
    pub fn directories(&self, commit: &str, subdirectory: &str) -> Vec<Vec<u8>> {
        self.ls_tree(&["-r", "-d", "--name-only"], commit, subdirectory)
    }

    fn ls_tree(&self, options: &[&str], commit: &str, subdirectory: &str) -> Vec<Vec<u8>> {
        let tree = if subdirectory == "." { commit.to_owned() } else { format!("{commit}:{subdirectory}") };
        let listing = git::output(self.git(["ls-tree", "-z"]).args(options).arg(tree));
        listing.split(|&byte| byte == 0).filter(|record| !record.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// The content of blobs, by id.
    pub fn blobs<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<u8>> {
        let wanted: BTreeSet<&str> = ids.into_iter().collect();
        let input: String = wanted.iter().flat_map(|id| [id, "\n"]).collect();
        let output = git::output_with_input(&mut self.git(["cat-file", "--batch"]), input.as_bytes());
        let mut rest = output.as_slice();
        let mut blobs = BTreeMap::new();
        for id in wanted {
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
            let header = str::from_utf8(&rest[..end]).unwrap();
            let size: usize =
                header.strip_prefix(&format!("{id} blob ")).unwrap_or_else(|| panic!("{header}")).parse().unwrap();
            blobs.insert(id.to_owned(), rest[end + 1..][..size].to_vec());
            rest = &rest[end + 1 + size + 1..];
        }
        blobs
    }
}

/// Reads `<mode> <type> <id> <padded size or ->\t<path>`.
fn listed(record: &[u8]) -> Listed {
    let tab = record.iter().position(|&byte| byte == b'\t').unwrap();
    let mut fields = str::from_utf8(&record[..tab]).unwrap().split_ascii_whitespace();
    let mode = fields.next().unwrap().to_owned();
    let id = fields.nth(1).unwrap().to_owned();
    let size = fields.next().unwrap().parse().unwrap_or(0);
    Listed { mode, id, size, path: record[tab + 1..].to_vec() }
}
