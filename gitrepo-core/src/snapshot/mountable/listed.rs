//! The tree that a manifest lists, as far as its reader can check it without the content.

use std::collections::HashSet;
use std::fs::File;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use git2::Oid;
use nix::dir::Dir;
use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;
use nix::unistd::Gid;
use nix::unistd::Uid;
use sha2::Digest;
use sha2::Sha256;

use super::record;
use super::record::Place;
use super::record::Record;
use crate::content::MANY;
use crate::digest;
use crate::pack::MOST_BOUNDARIES;
use crate::snapshot::Owner;
use crate::snapshot::Ownership;
use crate::snapshot::Part;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir;
use crate::snapshot::git_dir::pack;
use crate::snapshot::git_dir::pack::Packed;
use crate::snapshot::image;
use crate::snapshot::manifest;
use crate::snapshot::submodules;
use crate::snapshot::symlink::LONGEST_TARGET;
use crate::snapshot::widen;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Submodules;
use crate::spec::WorkingRepository;
use crate::spec::names;

/// Most segments of one tree: far more than a repository has.
pub(super) const MOST_SEGMENTS: usize = 1024;

/// Most segments of a tree with submodules: those of as many repositories, which are compacted when they have more.
pub(super) const MOST_COMPOSED_SEGMENTS: usize = (1 + submodules::MOST) * MANY;

/// Most bytes of link targets in a tree: 64 MiB. The Linux kernel's tree has about 2,000.
const MOST_LINK_BYTES: u64 = 64 << 20;

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
    digest: [u8; 32],
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

/// Checks that the worker left nothing but plain files, its manifest and the pack of `.git`, and takes ownership of them.
pub(crate) fn take(staging: &Path, request: &TreeRequest, owner: Owner) -> Result<File, SnapshotError> {
    let opened = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
    let failed = |error: nix::Error| SnapshotError::io("list", b"", error);
    let listing = opened.open(c"").and_then(Dir::from_fd).map_err(failed)?;
    for entry in listing {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        let is_pack = request.repository.is_some() && name == pack::FILE.as_bytes();
        if !matches!(name, b"." | b"..") && name != manifest::NAME.as_bytes() && !is_pack {
            return Err(untrusted(name, "it does not belong there"));
        }
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    unistd::fchown(&opened, uid, gid).map_err(|error| SnapshotError::io("take ownership of", b"", error))?;
    if request.repository.is_some() {
        let pack = take_file(staging, &opened, pack::FILE, owner)?;
        pack.set_permissions(Permissions::from_mode(0o444))
            .map_err(|error| SnapshotError::io("change the mode of", pack::FILE.as_bytes(), error))?;
    }
    take_file(staging, &opened, manifest::NAME, owner)
}

fn take_file(staging: &Path, opened: &Beneath, name: &str, owner: Owner) -> Result<File, SnapshotError> {
    let file = open_file(opened, name)?;
    let failed = |error| SnapshotError::io("examine", name.as_bytes(), error);
    let (found, place) = (file.metadata().map_err(failed)?, staging.metadata().map_err(failed)?);
    let reason = match (found.is_file(), found.mode() & 0o7777, found.nlink(), found.dev() == place.dev()) {
        (true, 0o644, 1, true) => None,
        (false, ..) => Some("it is not a regular file"),
        (_, _, _, false) => Some("it is on another filesystem"),
        (_, _, 1, _) => Some("its mode is not one that a tree has"),
        // A second hard link could be anywhere, and stay writable.
        _ => Some("it has more than one name"),
    };
    if let Some(reason) = reason {
        return Err(untrusted(name.as_bytes(), reason));
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    unistd::fchown(&file, uid, gid).map_err(|error| SnapshotError::io("take ownership of", name.as_bytes(), error))?;
    Ok(file)
}

/// Opens the manifest, and follows no link.
pub(crate) fn open(staging: &Beneath) -> Result<File, SnapshotError> {
    open_file(staging, manifest::NAME)
}

fn open_file(staging: &Beneath, name: &str) -> Result<File, SnapshotError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match fcntl::openat(staging, name, flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        Err(nix::errno::Errno::ENOENT) => Err(untrusted(name.as_bytes(), "it is missing")),
        Err(nix::errno::Errno::ELOOP) => Err(untrusted(name.as_bytes(), "it is not a regular file")),
        Err(error) => Err(SnapshotError::io("open", name.as_bytes(), error)),
    }
}

impl Listed {
    /// Reads a manifest, and checks names, order and limits. An honest worker has already enforced them.
    pub(crate) fn read(from: impl Read, request: &TreeRequest) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(request);
        let mut from = BufReader::with_capacity(256 * 1024, from);
        let path = record::OVERHEAD + record::COMMITTED + u64::from(request.limits.path_length) + reader.longest_url();
        let longest = path.max(record::LONGEST_PACK);
        // The image also depends on where the tree appears, and on what we add to it.
        let mut hash = Sha256::new_with_prefix(format!("{}\0", request.tree.directory));
        if let Some(shown) = &request.repository {
            let WorkingRepository { depth, branch, origin, .. } = shown;
            hash.update(format!("{depth}\0{}\0{origin}\0", branch.as_deref().unwrap_or_default()));
        }
        let (mut bytes, mut previous) = (Vec::new(), Vec::new());
        let mut time = None;
        // Segments come before the tree.
        let above = reader.listed.nodes.len();
        loop {
            bytes.clear();
            // One byte more, so that a record that is too long does not look like one that just fits.
            Read::take(&mut from, longest + 1)
                .read_until(0, &mut bytes)
                .map_err(|error| SnapshotError::io("read", manifest::NAME.as_bytes(), error))?;
            if bytes.is_empty() {
                break;
            }
            hash.update(&bytes);
            if time.is_none() {
                time = Some(record::parse_time(&bytes).ok_or_else(malformed)?);
                continue;
            }
            if reader.listed.nodes.len() == above
                && let Some(segment) = record::parse_segment(&bytes)
            {
                reader.add_segment(segment.ok_or_else(malformed)?)?;
                continue;
            }
            if reader.listed.nodes.len() == above && reader.add_packed(&bytes)? {
                continue;
            }
            let record = record::parse(&bytes).ok_or_else(malformed)?;
            // With the slash at the end of a directory.
            let path =
                bytes.iter().position(|&byte| byte == b'\t').map_or(&[][..], |tab| &bytes[tab + 1..bytes.len() - 1]);
            if path <= previous.as_slice() {
                return Err(untrusted(manifest::NAME.as_bytes(), "its paths are not in order"));
            }
            reader.add(&record)?;
            previous.clear();
            previous.extend_from_slice(path);
        }
        reader.add_git_dir()?;
        let mut listed = reader.listed;
        listed.time = time.ok_or_else(malformed)?;
        listed.digest = hash.finalize().into();
        Ok(listed)
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

/// A manifest that is being read.
struct Reader<'a> {
    request: &'a TreeRequest,
    listed: Listed,
    /// The directory of the last entry, from the root on.
    open: Vec<usize>,
    /// Its path in the tree.
    directory: Vec<u8>,
    /// Directories above the tree, and the bytes of their path with its slashes.
    above: usize,
    above_bytes: usize,
    /// Bytes of the entries of the index so far, if there is a `.git`.
    index_bytes: u64,
    /// A directory in which there can be nothing: a submodule's, or an empty one.
    empty: Option<usize>,
    /// The pack of `.git`.
    packed: Option<Packed>,
    /// The names of the segments so far.
    known: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn new(request: &'a TreeRequest) -> Self {
        let listed = Listed {
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
        };
        let mut reader = Self {
            request,
            listed,
            open: Vec::new(),
            directory: Vec::new(),
            above: 0,
            above_bytes: 0,
            index_bytes: 0,
            empty: None,
            packed: None,
            known: HashSet::new(),
        };
        for component in request.tree.directory.components() {
            reader.enter(component.as_bytes());
            reader.above_bytes += component.len() + 1;
        }
        reader.above = reader.open.len();
        reader
    }

    fn add(&mut self, record: &Record<'_>) -> Result<(), SnapshotError> {
        let Record { path, kind } = record;
        if self.request.repository.is_some() && !matches!(kind, record::Kind::Directory) {
            self.index_bytes += git_dir::index::entry_length(path.len());
            git_dir::index::check_length(self.request, self.index_bytes)?;
        }
        let (directory, last) = match (kind, path.iter().rposition(|&byte| byte == b'/')) {
            (record::Kind::Directory | record::Kind::Submodule { .. }, _) => (*path, None),
            (_, Some(slash)) => (&path[..slash], Some(&path[slash + 1..])),
            (_, None) => (&b""[..], Some(*path)),
        };
        // Most entries are in the directory of the one before.
        if directory != self.directory || self.empty.is_some() || path.starts_with(b"/") {
            self.change_directory(path, directory)?;
        }
        if let record::Kind::Submodule { commit, url } = kind {
            self.add_submodule(path, *commit, *url)?;
        }
        match last {
            Some(name) => {
                let is_link = matches!(kind, record::Kind::Symlink { .. });
                check_name(path, name, is_link)?;
                let kind = self.kind(path, kind)?;
                self.push(name, kind);
            }
            None => {
                self.empty = self.open.last().copied();
                if let (record::Kind::Submodule { commit, .. }, Some(node)) = (kind, self.empty) {
                    self.listed.gitlinks.push((node, *commit));
                }
            }
        }
        self.check_limits(path)
    }

    fn change_directory(&mut self, path: &[u8], directory: &[u8]) -> Result<(), SnapshotError> {
        let components: Vec<_> = match directory {
            b"" if !path.starts_with(b"/") => Vec::new(),
            directory => directory.split(|&byte| byte == b'/').collect(),
        };
        components.iter().try_for_each(|component| check_name(path, component, false))?;
        let opened = self.open[self.above..].iter().map(|at| self.listed.name(&self.listed.nodes[*at]));
        let same = opened.zip(&components).take_while(|(open, component)| open == *component).count();
        self.open.truncate(self.above + same);
        if self.empty.take().is_some_and(|empty| self.open.contains(&empty)) {
            return Err(untrusted(path, "it is in an empty directory"));
        }
        for component in &components[same..] {
            self.enter(component);
        }
        self.directory.clear();
        self.directory.extend_from_slice(directory);
        Ok(())
    }

    /// Whether submodules have a URL: those of a part, which is not yet composed with them.
    fn is_part(&self) -> bool {
        self.request.format == Part::NAME
    }

    /// In bytes; 0 if there is none.
    fn longest_url(&self) -> u64 {
        if self.is_part() { widen(RepositoryUrl::MAX_LENGTH) } else { 0 }
    }

    fn add_submodule(&mut self, path: &[u8], commit: Oid, url: Option<&str>) -> Result<(), SnapshotError> {
        match (self.is_part(), self.request.tree.submodules, url) {
            (true, _, Some(url)) if self.listed.submodules.len() < submodules::MOST => {
                let commit = commit.as_bytes().try_into().map(CommitId::from_bytes).map_err(|_| malformed())?;
                self.listed.submodules.push(Submodule { path: path.to_owned(), commit, url: url.to_owned() });
                Ok(())
            }
            (true, _, Some(_)) => Err(untrusted(path, "it is one submodule too many")),
            (false, Submodules::None, None) => Ok(()),
            (true, _, None) => Err(untrusted(path, "it is a submodule without a URL")),
            (false, ..) => Err(untrusted(path, "it is a submodule that nobody asked for")),
        }
    }

    fn kind(&mut self, path: &[u8], kind: &record::Kind<'_>) -> Result<Kind, SnapshotError> {
        Ok(match kind {
            record::Kind::Directory | record::Kind::Submodule { .. } => Kind::Directory,
            record::Kind::File { executable, content, committed } => {
                self.listed.summary.files += 1;
                self.add_committed(path, *committed)?;
                Kind::File { executable: *executable, content: self.extent(path, content)? }
            }
            record::Kind::Symlink { target } => {
                self.listed.summary.symlinks += 1;
                if !(1..=widen(LONGEST_TARGET)).contains(&target.size) {
                    return Err(untrusted(path, "it is a link to a path of no possible length"));
                }
                self.listed.link_bytes += target.size;
                check_link_bytes(self.request.commit, self.listed.link_bytes)?;
                Kind::Symlink { target: self.extent(path, target)? }
            }
        })
    }

    /// Notes the id in the commit of the file that becomes the next node.
    fn add_committed(&mut self, path: &[u8], committed: Option<Oid>) -> Result<(), SnapshotError> {
        let Some(id) = committed else { return Ok(()) };
        if self.request.repository.is_none() {
            return Err(untrusted(path, "it has an id that nobody asked for"));
        }
        self.listed.committed.push((self.listed.nodes.len(), id));
        Ok(())
    }

    fn add_segment(&mut self, name: &str) -> Result<(), SnapshotError> {
        let refused = |reason| Err(untrusted(manifest::NAME.as_bytes(), reason));
        let is_composed = !self.is_part() && !self.request.tree.submodules.is_none();
        let most = if is_composed { MOST_COMPOSED_SEGMENTS } else { MOST_SEGMENTS };
        if self.listed.segments.len() == most {
            return refused("it names more segments than a repository has");
        }
        if !self.known.insert(name.to_owned()) {
            return refused("it names a segment twice");
        }
        self.listed.segments.push(name.to_owned());
        Ok(())
    }

    fn extent(&mut self, path: &[u8], place: &Place) -> Result<Extent, SnapshotError> {
        let Place { id, segment, offset, size } = *place;
        if segment >= self.listed.segments.len() {
            return Err(untrusted(path, "it is in a segment that is not named"));
        }
        self.listed.summary.bytes = self.listed.summary.bytes.saturating_add(size);
        Ok(Extent { id, segment, offset, size })
    }

    /// Adds a directory, for the entries that follow.
    fn enter(&mut self, name: &[u8]) {
        self.listed.summary.directories += 1;
        self.push(name, Kind::Directory);
        self.open.push(self.listed.nodes.len() - 1);
    }

    fn push(&mut self, name: &[u8], kind: Kind) {
        self.listed.push(self.open.last().copied(), name, kind);
    }

    /// Reads the records about the pack of `.git`. Returns whether this is one.
    fn add_packed(&mut self, bytes: &[u8]) -> Result<bool, SnapshotError> {
        let refused = |reason| Err(untrusted(manifest::NAME.as_bytes(), reason));
        if let Some(packed) = record::parse_pack(bytes) {
            if self.request.repository.is_none() || self.packed.is_some() {
                return refused("it names a pack that nobody asked for");
            }
            self.packed = Some(packed.ok_or_else(malformed)?);
            return Ok(true);
        }
        let Some(commit) = record::parse_shallow(bytes) else { return Ok(false) };
        let commit = commit.ok_or_else(malformed)?;
        let Some(packed) = &mut self.packed else { return refused("it cuts a history that nobody asked for") };
        if packed.boundary.len() == MOST_BOUNDARIES {
            return refused("it cuts a history in too many places");
        }
        packed.boundary.push(commit);
        Ok(true)
    }

    /// Adds `.git`, once the tree is complete. A tree that has one itself was refused.
    fn add_git_dir(&mut self) -> Result<(), SnapshotError> {
        self.listed.tree_end = self.listed.nodes.len();
        self.listed.above_bytes = self.above_bytes;
        let Some(shown) = &self.request.repository else { return Ok(()) };
        let Some(packed) = self.packed.take() else {
            return Err(untrusted(manifest::NAME.as_bytes(), "it names no pack"));
        };
        self.open.truncate(self.above);
        let (top, commit) = (self.open.last().copied(), self.request.commit);
        git_dir::add(&mut self.listed, self.index_bytes, top, shown, commit, &packed);
        self.check_limits(b".git")
    }

    fn check_limits(&self, path: &[u8]) -> Result<(), SnapshotError> {
        let TreeRequest { commit, limits, .. } = self.request;
        let over = |count: u64, limit: u64, what: &str, setting: &str| {
            if count > limit { Err(SnapshotError::too_large(*commit, what, limit, setting)) } else { Ok(()) }
        };
        let summary = &self.listed.summary;
        over(widen(self.open.len()), limits.path_depth.into(), "nested directories", "limits.pathDepth")?;
        over(widen(self.above_bytes + path.len()), limits.path_length.into(), "bytes in a path", "limits.pathLength")?;
        over(summary.entries(), limits.entries, "entries", "limits.entries")?;
        over(summary.bytes, limits.tree_bytes, "bytes", "limits.treeBytes")
    }
}

/// An image holds the targets of its links, and so does whoever makes it: unlike content, they cost memory of the driver.
pub(crate) fn check_link_bytes(commit: CommitId, bytes: u64) -> Result<(), SnapshotError> {
    if bytes <= MOST_LINK_BYTES {
        return Ok(());
    }
    let what = "bytes of link targets";
    Err(SnapshotError::too_large(commit, what, MOST_LINK_BYTES, "this version"))
}

fn check_name(path: &[u8], name: &[u8], is_link: bool) -> Result<(), SnapshotError> {
    names::check(name, is_link).map_err(|error| untrusted(path, &error.to_string()))
}

fn malformed() -> SnapshotError {
    untrusted(manifest::NAME.as_bytes(), "it has a malformed record")
}

pub(crate) fn untrusted(path: &[u8], reason: &str) -> SnapshotError {
    SnapshotError::Untrusted { path: String::from_utf8_lossy(path).into_owned(), reason: reason.to_owned() }
}
