//! Reads a manifest that a worker wrote, and believes nothing of it: names, order, counts and sizes are checked.

use std::collections::HashSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;

use git2::Oid;
use sha2::Digest;
use sha2::Sha256;

use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use super::listed::Submodule;
use super::listed::untrusted;
use super::record;
use super::record::Place;
use super::record::Record;
use crate::content::MANY;
use crate::pack::MOST_BOUNDARIES;
use crate::snapshot::Part;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::git_dir;
use crate::snapshot::git_dir::pack::Packed;
use crate::snapshot::manifest;
use crate::snapshot::submodules;
use crate::snapshot::symlink::LONGEST_TARGET;
use crate::snapshot::widen;
use crate::spec::Checkout;
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

/// Reads a manifest.
pub(super) fn read(from: impl Read, request: &TreeRequest) -> Result<Listed, SnapshotError> {
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
        let path = bytes.iter().position(|&byte| byte == b'\t').map_or(&[][..], |tab| &bytes[tab + 1..bytes.len() - 1]);
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
        let mut reader = Self {
            request,
            listed: Listed::new(),
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
        let TreeRequest { repository, tree, .. } = self.request;
        if repository.is_none() || (tree.checkout == Checkout::Bytes && !tree.lfs) {
            return Err(untrusted(path, "it has other content than in the commit, which nobody asked for"));
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
