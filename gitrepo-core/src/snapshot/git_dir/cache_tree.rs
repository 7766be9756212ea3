//! The extension of the index with the ids of the trees (gitformat-index(5), "Cache tree").
//!
//! With it, `git status` compares one id with that of the commit, and `git commit` writes only the trees that changed.
//! Without it, both read every tree of the commit first.

use std::iter::successors;

use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::super::mountable::listed::Kind;
use super::super::mountable::listed::Listed;

/// The extension's name.
pub(super) const NAME: [u8; 4] = *b"TREE";

/// Bytes of the name and the length of an extension.
pub(super) const HEADER: usize = 8;

/// Most bytes of the extension, beside the entries of the index: 64 MiB, some million directories.
const MOST: u32 = 64 << 20;

/// The mode of a directory in a tree.
const DIRECTORY: u32 = 0o40000;

/// Returns the extension of a listed tree, whose directory is `top`. Returns nothing if the id of the tree is not `root`:
/// then the commit has what the index cannot say, such as a directory with nothing in it, or a mode of old. Git does without.
pub(super) fn extension(listed: &Listed, top: Option<usize>, root: Oid) -> Vec<u8> {
    let trees = Trees::of(listed, top);
    if trees.of_node(top).entry != Some((DIRECTORY, root)) {
        return Vec::new();
    }
    let mut bytes = [NAME, [0; 4]].concat();
    trees.write(top, &mut bytes);
    let length = bytes.len() - HEADER;
    let Some(length) = u32::try_from(length).ok().filter(|length| *length <= MOST) else { return Vec::new() };
    bytes[NAME.len()..HEADER].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Its mode and id in a tree; none of a directory with nothing in it.
    entry: Option<(u32, Oid)>,
    /// How many entries of the index it is, or has.
    count: usize,
    /// The first of what is in it.
    first: Option<usize>,
    /// The next in its directory, in the order of git's trees, which is that of the list.
    next: Option<usize>,
}

/// The trees of a list.
struct Trees<'a> {
    listed: &'a Listed,
    /// What is known of the root, and then of each node.
    known: Vec<Known>,
}

/// The place of a node in [`Trees::known`].
fn place(node: Option<usize>) -> usize {
    node.map_or(0, |node| node + 1)
}

impl<'a> Trees<'a> {
    fn of(listed: &'a Listed, top: Option<usize>) -> Self {
        let mut trees = Self { listed, known: vec![Known::default(); listed.tree_end + 1] };
        for (node, mode, id) in listed.tracked() {
            let known = &mut trees.known[node + 1];
            (known.entry, known.count) = (Some((mode, id)), 1);
        }
        // What is in a directory comes after it.
        for node in (place(top)..listed.tree_end).rev() {
            trees.complete(Some(node));
            let parent = place(listed.nodes[node].parent);
            trees.known[node + 1].next = trees.known[parent].first.replace(node);
            trees.known[parent].count += trees.known[node + 1].count;
        }
        trees.complete(top);
        trees
    }

    fn of_node(&self, node: Option<usize>) -> Known {
        self.known[place(node)]
    }

    /// What is in a directory, in the order of git's trees.
    fn children(&self, directory: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        successors(self.of_node(directory).first, |node| self.of_node(Some(*node)).next)
    }

    fn name(&self, node: usize) -> &'a [u8] {
        self.listed.name(&self.listed.nodes[node])
    }

    /// Computes the id of a directory, once those of all that is in it are known.
    fn complete(&mut self, node: Option<usize>) {
        let is_directory = node.is_none_or(|node| matches!(self.listed.nodes[node].kind, Kind::Directory));
        if !is_directory || self.of_node(node).entry.is_some() || self.of_node(node).count == 0 {
            return;
        }
        let mut tree = Vec::new();
        for child in self.children(node) {
            if let Some((mode, id)) = self.of_node(Some(child)).entry {
                tree.extend(format!("{mode:o} ").into_bytes());
                tree.extend_from_slice(self.name(child));
                tree.push(0);
                tree.extend_from_slice(id.as_bytes());
            }
        }
        let hash = Sha1::new_with_prefix(format!("tree {}\0", tree.len())).chain_update(&tree).finalize();
        self.known[place(node)].entry = Oid::from_bytes(&hash).ok().map(|id| (DIRECTORY, id));
    }

    /// Writes the directories, each before what is in it, those with short names first.
    fn write(&self, top: Option<usize>, into: &mut Vec<u8>) {
        let mut left = vec![top];
        while let Some(directory) = left.pop() {
            let Known { entry: Some((_, id)), count, .. } = self.of_node(directory) else { continue };
            let is_tree = |node: &usize| self.of_node(Some(*node)).entry.is_some_and(|(mode, _)| mode == DIRECTORY);
            let mut below: Vec<usize> = self.children(directory).filter(is_tree).collect();
            below.sort_unstable_by_key(|node| (self.name(*node).len(), self.name(*node)));
            if directory != top {
                into.extend(directory.iter().flat_map(|node| self.name(*node)));
            }
            into.push(0);
            into.extend(format!("{count} {}\n", below.len()).into_bytes());
            into.extend_from_slice(id.as_bytes());
            left.extend(below.into_iter().rev().map(Some));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::super::super::fixture::EXECUTABLE;
    use super::super::super::fixture::FILE;
    use super::super::super::fixture::Fixture;
    use super::super::super::fixture::SUBMODULE;
    use super::super::super::fixture::SYMLINK;
    use super::super::super::fixture::TREE;
    use super::super::super::fixture::list;
    use super::super::super::fixture::request;
    use super::*;
    use crate::spec::CommitId;
    use crate::watch::Watch;

    /// What git writes after the entries of an index that it makes of a commit.
    fn of_git(repository: &Path, commit: CommitId) -> Vec<u8> {
        let place = tempfile::tempdir().unwrap();
        let index = place.path().join("index");
        let mut git = Command::new("git");
        git.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.env("GIT_INDEX_FILE", &index).arg("--git-dir").arg(repository).args(["read-tree", &commit.to_string()]);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = fs::read(index).unwrap();
        let at = bytes.windows(NAME.len()).rposition(|part| part == NAME).unwrap();
        bytes[at..bytes.len() - 20].to_vec()
    }

    fn ours(fixture: &Fixture, commit: CommitId, root: Oid) -> Vec<u8> {
        let below = ours_in(fixture, commit, root, "x/y");
        assert_eq!(ours_in(fixture, commit, root, "."), below);
        below
    }

    fn ours_in(fixture: &Fixture, commit: CommitId, root: Oid, directory: &str) -> Vec<u8> {
        let (staging, mut request) = (tempfile::tempdir().unwrap(), request(commit));
        request.tree.directory = crate::spec::RelativePath::parse(directory).unwrap();
        list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
        let listed = Listed::read(fs::File::open(staging.path().join("manifest")).unwrap(), &request).unwrap();
        let top = listed.nodes.iter().position(|node| listed.path(node) == directory.as_bytes());
        extension(&listed, top, root)
    }

    #[test]
    fn the_trees_are_those_that_git_writes() {
        let fixture = Fixture::new();
        let blob = fixture.blob("content\n");
        let leaf = fixture.tree(&[(FILE, b"leaf", blob), (SYMLINK, b"link", fixture.blob("leaf"))]);
        let middle = fixture.tree(&[
            (EXECUTABLE, b"a", blob),
            (TREE, b"a-long-name", leaf),
            (FILE, b"b.c", blob),
            (TREE, b"bb", leaf),
            (SUBMODULE, b"module", blob),
            (TREE, b"z", leaf),
        ]);
        // As git orders trees: `d.e` before `d/`, and `d/` before `d0`.
        let root = fixture.tree(&[
            (FILE, b"d.e", blob),
            (TREE, b"d", middle),
            (TREE, b"d0", leaf),
            (TREE, b"deep", (0..30).fold(leaf, |tree, _| fixture.tree(&[(TREE, b"deep", tree)]))),
            (TREE, b"e", middle),
        ]);
        let commit = fixture.commit(root);
        assert_eq!(ours(&fixture, commit, root), of_git(fixture.path(), commit));
        assert!(ours(&fixture, commit, leaf).is_empty(), "of another commit");
    }

    #[test]
    fn of_what_an_index_cannot_say_nothing_is_written() {
        let fixture = Fixture::new();
        let blob = fixture.blob("content\n");
        for entry in [(TREE, b"empty", fixture.tree(&[])), (0o100664, b"group", blob)] {
            let root = fixture.tree(&[(FILE, b"a", blob), (entry.0, entry.1, entry.2)]);
            assert!(ours(&fixture, fixture.commit(root), root).is_empty());
        }
        let root = fixture.tree(&[]);
        assert!(ours(&fixture, fixture.commit(root), root).is_empty());
    }
}
