//! Narrow fetches: one directory of a commit, with all that is below it, and nothing beside it.
//!
//! The commit and the trees above the directory come one by one, each by its id. They lead to the directory's tree, which
//! is wanted like a commit: with everything below. In a repository every object has all that it names, so only what is
//! below the directory gets into one. No ref is written: what says that a whole commit is here stays true.

use git2::ObjectType;
use git2::Oid;

use crate::object;
use crate::object::TreeObject;
use crate::spec::RelativePath;

/// What leads from a commit to one of its directories.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The content of the commit, then that of each tree above the directory. If there is no such directory, up to the
    /// tree that shows this.
    pub(super) objects: Vec<(ObjectType, Vec<u8>)>,
    /// The tree of the directory; `None` if there is none.
    pub(super) tree: Option<Oid>,
}

impl Way {
    /// Goes from a commit to a directory. `read` returns the content of a tree. Returns `None` if the commit names no tree,
    /// or one of them cannot be had.
    pub(super) fn find<E>(
        commit: Vec<u8>,
        directory: &RelativePath,
        mut read: impl FnMut(Oid) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Self>, E> {
        let Some(mut tree) = object::tree_of(&commit) else { return Ok(None) };
        let mut objects = vec![(ObjectType::Commit, commit)];
        for component in directory.components() {
            let Some(content) = read(tree)? else { return Ok(None) };
            let next = entry(&content, component);
            objects.push((ObjectType::Tree, content));
            match next {
                Some(next) => tree = next,
                None => return Ok(Some(Self { objects, tree: None })),
            }
        }
        Ok(Some(Self { objects, tree: Some(tree) }))
    }
}

/// The tree of this name in a tree. Of what is malformed or has another type, the listing says so.
fn entry(tree: &[u8], name: &str) -> Option<Oid> {
    let mut entries = TreeObject(tree).map_while(Result::ok);
    let found = entries.find(|entry| entry.name == name.as_bytes())?;
    found.is_tree().then_some(found.id)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn id(kind: ObjectType, content: &[u8]) -> Oid {
        Oid::hash_object(kind, content).unwrap()
    }

    fn tree(entries: &[(&str, &str, Oid)]) -> Vec<u8> {
        let line =
            |(mode, name, id): &(&str, &str, Oid)| [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat();
        entries.iter().flat_map(line).collect()
    }

    #[test]
    fn a_way_ends_at_the_directory_or_where_it_is_missing() {
        let blob = id(ObjectType::Blob, b"content");
        let deep = tree(&[("100644", "file", blob)]);
        let middle = tree(&[("40000", "deep", id(ObjectType::Tree, &deep)), ("100644", "file", blob)]);
        let root = tree(&[("120000", "link", blob), ("40000", "middle", id(ObjectType::Tree, &middle))]);
        let commit = format!("tree {}\n\nm\n", id(ObjectType::Tree, &root)).into_bytes();
        let trees = [&root, &middle];
        let find = |directory: &str| {
            let read = |wanted| {
                let found = trees.into_iter().find(|tree| id(ObjectType::Tree, tree) == wanted);
                Ok::<_, Infallible>(found.cloned())
            };
            Way::find(commit.clone(), &RelativePath::parse(directory).unwrap(), read).unwrap()
        };
        let way = |trees: &[&Vec<u8>], tree| {
            let trees = trees.iter().map(|tree| (ObjectType::Tree, (*tree).clone()));
            let objects = [(ObjectType::Commit, commit.clone())].into_iter().chain(trees).collect();
            Some(Way { objects, tree })
        };
        assert_eq!(find("middle"), way(&[&root], Some(id(ObjectType::Tree, &middle))));
        assert_eq!(find("middle/deep"), way(&[&root, &middle], Some(id(ObjectType::Tree, &deep))));
        for (missing, trees) in [
            ("none", &[&root][..]),
            ("link", &[&root]),
            ("Middle", &[&root]),
            ("middle/file/x", &[&root, &middle]),
            ("middle/none/x", &[&root, &middle]),
        ] {
            assert_eq!(find(missing), way(trees, None), "{missing}");
        }
        assert_eq!(find("middle/deep/x"), None, "a tree that nobody has");
    }
}
