//! The tree that a list of nodes describes.

use super::EntryError;
use super::ImageError;
use super::Kind;
use super::Node;
use crate::snapshot::symlink::LONGEST_TARGET;

/// The number of the root. That of a node is its index plus one.
pub(super) const ROOT: usize = 0;

/// Longest name, in bytes.
const LONGEST_NAME: usize = 255;

/// Checked nodes, by number.
pub(super) struct Hierarchy<'a> {
    nodes: &'a [Node<'a>],
    /// All numbers but the root's, grouped by directory, and each group sorted by name.
    entries: Vec<usize>,
    /// Where the group of each number begins in `entries`; and the end of the last.
    groups: Vec<usize>,
}

impl<'a> Hierarchy<'a> {
    /// Checks that the nodes are a tree, and sorts it.
    pub(super) fn new(nodes: &'a [Node<'a>]) -> Result<Self, ImageError> {
        for (index, node) in nodes.iter().enumerate() {
            check(nodes, node).map_err(|problem| ImageError::entry(nodes, index, problem))?;
        }
        let hierarchy = Self::grouped(nodes);
        hierarchy.check_names()?;
        hierarchy.check_reachable()?;
        Ok(hierarchy)
    }

    fn grouped(nodes: &'a [Node<'a>]) -> Self {
        let mut groups = vec![0; nodes.len() + 2];
        for node in nodes {
            groups[number_of(node.parent) + 1] += 1;
        }
        for number in 1..groups.len() {
            groups[number] += groups[number - 1];
        }
        let (mut entries, mut next) = (vec![0; nodes.len()], groups.clone());
        for (index, node) in nodes.iter().enumerate() {
            let place = &mut next[number_of(node.parent)];
            entries[*place] = index + 1;
            *place += 1;
        }
        for group in groups.windows(2) {
            entries[group[0]..group[1]].sort_unstable_by_key(|number| nodes[number - 1].name);
        }
        Self { nodes, entries, groups }
    }

    fn check_names(&self) -> Result<(), ImageError> {
        let twice = |directory: usize| {
            let mut pairs = self.entries(directory).windows(2);
            pairs.find(|pair| self.name(pair[0]) == self.name(pair[1])).map(|pair| pair[1])
        };
        match (0..self.len()).find_map(twice) {
            Some(number) => Err(ImageError::entry(self.nodes, number - 1, EntryError::Duplicate)),
            None => Ok(()),
        }
    }

    /// Nodes that are their own ancestors are not below the root.
    fn check_reachable(&self) -> Result<(), ImageError> {
        let order = self.order();
        if order.len() == self.len() {
            return Ok(());
        }
        let mut reached = vec![false; self.len()];
        order.into_iter().for_each(|number| reached[number] = true);
        let lost = reached.iter().position(|reached| !reached).unwrap_or_default();
        Err(ImageError::entry(self.nodes, lost.saturating_sub(1), EntryError::Unreachable))
    }

    /// The time of a node, if it has one of its own.
    pub(super) fn time(&self, number: usize) -> Option<i64> {
        self.node(number).and_then(|node| node.time)
    }

    /// How many nodes there are, and the root.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + 1
    }

    /// The root first, then the entries of each directory together. A directory that is visited is followed by those
    /// below it, as a reader goes through a tree.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.len());
        order.push(ROOT);
        let mut unread = vec![ROOT];
        while let Some(directory) = unread.pop() {
            let entries = self.entries(directory);
            order.extend_from_slice(entries);
            unread.extend(entries.iter().rev().filter(|number| self.is_directory(**number)));
        }
        order
    }

    /// The numbers of the entries of a directory, sorted by name.
    pub(super) fn entries(&self, directory: usize) -> &[usize] {
        &self.entries[self.groups[directory]..self.groups[directory + 1]]
    }

    pub(super) fn subdirectories(&self, directory: usize) -> usize {
        self.entries(directory).iter().filter(|number| self.is_directory(**number)).count()
    }

    /// The number of the directory that has this one as an entry; the root's own.
    pub(super) fn parent(&self, number: usize) -> usize {
        self.node(number).map_or(ROOT, |node| number_of(node.parent))
    }

    pub(super) fn name(&self, number: usize) -> &'a [u8] {
        self.node(number).map_or(b"", |node| node.name)
    }

    pub(super) fn kind(&self, number: usize) -> Kind<'a> {
        self.node(number).map_or(Kind::Directory, |node| node.kind)
    }

    fn is_directory(&self, number: usize) -> bool {
        matches!(self.kind(number), Kind::Directory)
    }

    /// `None` for the root.
    fn node(&self, number: usize) -> Option<&'a Node<'a>> {
        number.checked_sub(1).map(|index| &self.nodes[index])
    }
}

/// The number of the directory that a node names as its parent.
fn number_of(parent: Option<usize>) -> usize {
    parent.map_or(ROOT, |index| index + 1)
}

fn check(nodes: &[Node<'_>], node: &Node<'_>) -> Result<(), EntryError> {
    match node.name {
        name if name.len() > LONGEST_NAME => return Err(EntryError::LongName(name.len())),
        b"" | b"." | b".." => return Err(EntryError::Name),
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => return Err(EntryError::Name),
        _ => {}
    }
    if let Some(parent) = node.parent
        && !nodes.get(parent).is_some_and(|parent| matches!(parent.kind, Kind::Directory))
    {
        return Err(EntryError::Parent);
    }
    match node.kind {
        Kind::Symlink { target } if !(1..=LONGEST_TARGET).contains(&target.len()) => {
            Err(EntryError::TargetLength(target.len()))
        }
        Kind::Symlink { target } if target.contains(&0) => Err(EntryError::TargetNul),
        _ => Ok(()),
    }
}
