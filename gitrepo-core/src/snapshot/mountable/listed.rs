//! The tree that a manifest lists, as far as its reader can check it without the content.

use std::io::Read;

use git2::Oid;
use sha2::Digest;
use sha2::Sha256;

use super::reader;
use crate::digest;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::snapshot::image;
use crate::spec::CommitId;

/// A tree that was listed and checked: what a [format](super::SnapshotFormat) makes a snapshot of.
#[derive(Debug)]
pub struct Listed {
    /// In seconds since 1970.
    pub(crate) time: i64,
    /// Directories come before what is in them.
    pub(crate) nodes: Vec<Node>,
    /// The names of the segments, in the order of their first use.
    pub(crate) segments: Vec<String>,
    pub(crate) summary: TreeSummary,
    /// Bytes of the targets of links.
    pub(crate) link_bytes: u64,
    /// The content of the files of `.git` that we write. The last is the index, without what lstat(2) says.
    pub(crate) written: Vec<Vec<u8>>,
    /// The directories of submodules, as indexes into the nodes, with the commit of each.
    pub(crate) gitlinks: Vec<(usize, Oid)>,
    /// The files with other content than in the commit, as indexes into the nodes, with the id of the blob there. Only if
    /// there is a `.git`.
    pub(crate) committed: Vec<(usize, Oid)>,
    /// The end of the tree in the nodes, and the bytes of the path above it with its slashes.
    pub(crate) tree_end: usize,
    pub(crate) above_bytes: usize,
    /// In the order of the manifest; none unless it is a part's.
    pub(crate) submodules: Vec<Submodule>,
    /// Different for every other manifest, and place of the tree.
    pub(super) digest: [u8; 32],
    /// The names of the nodes, one after the other.
    names: Vec<u8>,
}

/// A submodule of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submodule {
    /// Its path in the tree.
    pub(crate) path: Vec<u8>,
    pub(crate) commit: CommitId,
    /// As written in `.gitmodules`; without control characters.
    pub(crate) url: String,
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its directory, as an index into [`Listed::nodes`]. `None` is the root.
    pub(crate) parent: Option<usize>,
    name: std::ops::Range<usize>,
    pub(crate) kind: Kind,
}

/// The type of a [`Node`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Directory,
    File {
        executable: bool,
        content: Extent,
    },
    Symlink {
        target: Extent,
    },
    /// A file with the content of this number in [`Listed::written`], and its length in bytes.
    Written {
        number: usize,
        size: u64,
    },
}

impl Kind {
    /// What lstat(2) tells of a file or a link, in bytes; 0 for a directory.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Directory => 0,
            Self::File { content, .. } => content.size,
            Self::Symlink { target } => target.size,
            Self::Written { size, .. } => *size,
        }
    }
}

/// A part of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// The blob's id.
    pub(crate) id: Oid,
    /// As an index into [`Listed::segments`].
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Listed {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            time: 0,
            nodes: Vec::new(),
            segments: Vec::new(),
            summary: TreeSummary::default(),
            link_bytes: 0,
            written: Vec::new(),
            gitlinks: Vec::new(),
            committed: Vec::new(),
            tree_end: 0,
            above_bytes: 0,
            submodules: Vec::new(),
            digest: [0; 32],
            names: Vec::new(),
        }
    }

    /// Reads a manifest, and checks names, order and limits. An honest worker has already enforced them.
    pub(crate) fn read(from: impl Read, request: &TreeRequest) -> Result<Self, SnapshotError> {
        reader::read(from, request)
    }

    /// Identifies the manifest and the place of the tree, in hexadecimal. It was computed while the manifest was read.
    pub(crate) fn digest(&self) -> String {
        digest::hex(&self.digest)
    }

    /// The UUID of its image with these owners. No other image has it.
    pub(crate) fn uuid(&self, ownership: &Ownership) -> image::Uuid {
        let digest = match ownership.is_root() {
            true => self.digest,
            false => Sha256::new_with_prefix(self.digest).chain_update(ownership.to_bytes()).finalize().into(),
        };
        std::array::from_fn(|at| digest[at])
    }

    /// Adds a node to a directory. Returns its index.
    pub(crate) fn push(&mut self, parent: Option<usize>, name: &[u8], kind: Kind) -> usize {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        let name = start..self.names.len();
        self.nodes.push(Node { parent, name, kind });
        self.nodes.len() - 1
    }

    /// Whether there is one more segment after those with names: the pack of `.git`, which has files that we write.
    pub(crate) fn is_packed(&self) -> bool {
        !self.written.is_empty()
    }

    /// Whether the file of this number in [`Listed::written`] is the index of `.git`.
    pub(crate) fn is_index(&self, number: usize) -> bool {
        number + 1 == self.written.len()
    }

    /// How many segments the nodes are in.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len() + usize::from(self.is_packed())
    }

    pub(crate) fn name(&self, node: &Node) -> &[u8] {
        &self.names[node.name.clone()]
    }

    /// The path of a node in the volume.
    pub(crate) fn path(&self, node: &Node) -> Vec<u8> {
        let parent = |node: &&Node| node.parent.map(|parent| &self.nodes[parent]);
        let mut names: Vec<_> = std::iter::successors(Some(node), parent).map(|node| self.name(node)).collect();
        names.reverse();
        names.join(&b'/')
    }

    /// How many directories a node is in.
    pub(crate) fn depth(&self, node: &Node) -> usize {
        std::iter::successors(node.parent, |parent| self.nodes[*parent].parent).count()
    }
}

pub(crate) fn untrusted(path: &[u8], reason: &str) -> SnapshotError {
    SnapshotError::Untrusted { path: String::from_utf8_lossy(path).into_owned(), reason: reason.to_owned() }
}
