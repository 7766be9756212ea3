//! Makes the pack of a `.git`, in the worker: exactly what is reachable from the commit within the depth, whatever else
//! the store's repository has, so that nobody reads through a volume what the remote did not give him.
//!
//! The objects are those that were verified when they came: commits and trees out of the history of the repository, blobs
//! out of its segments. So a fetch that builds on the store brings little, and what it brings need not be kept twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use git2::ObjectType;
use git2::Odb;
use git2::Oid;
use git2::Repository;

use super::super::Listed;
use super::super::SnapshotError;
use super::super::TreeRequest;
use super::super::blob;
use super::super::object::Hash;
use super::history::History;
use crate::content::ALIGNMENT;
use crate::content::Extent;
use crate::content::Segments;
use crate::error::Cause;
use crate::error::chain;
use crate::pack;
use crate::pack::Content;
use crate::pack::MOST_OBJECTS;
use crate::pack::PackError;
use crate::progress::Step;
use crate::watch::Watch;

/// The file with the pack and then its index, each from a boundary on, as it is named beside the manifest.
pub(crate) const FILE: &str = "pack";

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Objects between two looks at what is left to do.
const BATCH: usize = 256;

/// A pack, and its index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// `pack-` and 40 digits.
    pub(crate) name: String,
    /// The id of the commit's tree.
    pub(crate) tree: Oid,
    /// The id of the pack as a blob, and its length in bytes.
    pub(crate) pack: (Oid, u64),
    /// Those of its index.
    pub(crate) index: (Oid, u64),
    /// The commits whose parents are left out.
    pub(crate) boundary: Vec<Oid>,
}

/// Removes the file once a snapshot has it under another name, or a copy of what is in it.
pub(crate) fn remove(staging: &Path, listed: &Listed) -> Result<(), SnapshotError> {
    let removed = if listed.is_packed() { fs::remove_file(staging.join(FILE)) } else { Ok(()) };
    removed.map_err(|error| SnapshotError::io("remove", FILE.as_bytes(), error))
}

/// Where the index of a pack of this length begins in [`FILE`].
pub(crate) fn index_offset(pack: u64) -> u64 {
    pack.next_multiple_of(ALIGNMENT)
}

/// Makes the pack in `staging`, for a tree of this many bytes. Returns `None` if the tree shows no repository.
pub(crate) fn pack(
    repository: &Path,
    request: &TreeRequest,
    tree_bytes: u64,
    staging: &Path,
    watch: &Watch,
) -> Result<Option<Packed>, SnapshotError> {
    let Some(shown) = &request.repository else { return Ok(None) };
    let unreadable = |error: git2::Error| SnapshotError::unreadable(request.commit, &error);
    let opened = Repository::open_bare(repository).map_err(unreadable)?;
    let odb = opened.odb().map_err(unreadable)?;
    let commit =
        Oid::from_bytes(request.commit.as_bytes()).and_then(|id| opened.find_commit(id)).map_err(unreadable)?;
    let room = request.limits.tree_bytes.saturating_sub(tree_bytes);
    let writer = pack::History::create(staging).map_err(|error| failed(request, error))?;
    let mut packing = Packing { request, watch, room, writer, lines: Vec::new(), total: 0, bytes: 0 };
    let boundary = packing.add_history(&odb, repository, shown.depth)?;
    let name = packing.finish()?;
    let io = |error| SnapshotError::io("write", FILE.as_bytes(), error);
    let (pack, index) = join(staging, &name).map_err(io)?;
    Ok(Some(Packed { name, tree: commit.tree_id(), pack, index, boundary }))
}

/// A pack that is being made.
struct Packing<'a> {
    request: &'a TreeRequest,
    watch: &'a Watch,
    /// Most bytes of the pack.
    room: u64,
    writer: pack::History,
    /// The id and the place of each object.
    lines: Vec<(Oid, u64)>,
    /// How many objects there are, as far as that is known.
    total: usize,
    /// Their bytes so far.
    bytes: u64,
}

impl Packing<'_> {
    /// Adds all objects. Returns the commits whose parents are left out.
    fn add_history(&mut self, odb: &Odb<'_>, repository: &Path, depth: u32) -> Result<Vec<Oid>, SnapshotError> {
        let mut history = History::new(odb, repository, self.request.commit, depth)?;
        history.walk(&mut |id, object| self.add(id, object.kind(), &object.data().to_vec().into(), &mut |_| ()))?;
        let History { blobs, boundary, .. } = history;
        self.total = self.lines.len() + blobs.len();
        self.add_blobs(repository, &blobs)?;
        Ok(boundary)
    }

    /// Adds blobs in this order, however they lie in the segments: a pack that is made again is the same.
    fn add_blobs(&mut self, repository: &Path, ids: &[Oid]) -> Result<(), SnapshotError> {
        let failed = |error| SnapshotError::io("open", b"segments", error);
        let segments = Segments::open(repository).map_err(failed)?;
        let mut files: HashMap<usize, Arc<File>> = HashMap::new();
        for (id, extent) in ids.iter().zip(blob::locate(&segments, ids, self.request.commit)?) {
            let extent = extent.ok_or_else(|| blob::missing(self.request.commit, *id))?;
            let file = match files.entry(extent.segment) {
                Entry::Occupied(opened) => opened.into_mut(),
                Entry::Vacant(place) => place.insert(Arc::new(segments.file(extent).try_clone().map_err(failed)?)),
            };
            let file = Arc::clone(file);
            self.add_blob(*id, file, &extent)?;
        }
        Ok(())
    }

    /// Adds a blob, and checks that it is not damaged: nobody else would notice before git does.
    fn add_blob(&mut self, id: Oid, file: Arc<File>, extent: &Extent) -> Result<(), SnapshotError> {
        let Extent { offset, length, .. } = *extent;
        let mut hash = Hash::new(ObjectType::Blob, length);
        let content = Content::Part { file, offset, length };
        self.add(id, ObjectType::Blob, &content, &mut |piece| hash.update(piece))?;
        if hash.is(id) { Ok(()) } else { Err(blob::damaged(self.request.commit, id)) }
    }

    /// Adds an object. `seen` gets its content, too.
    fn add(
        &mut self,
        id: Oid,
        kind: ObjectType,
        content: &Content,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SnapshotError> {
        let TreeRequest { commit, limits, .. } = self.request;
        if self.lines.len().is_multiple_of(BATCH) {
            self.watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit: *commit, source })?;
            let (entries, total_entries) = (self.lines.len() as u64, self.total.max(self.lines.len()) as u64);
            self.watch.progress.report(&Step::Writing { entries, total_entries, bytes: self.bytes });
        }
        let number = u32::try_from(self.lines.len()).map_err(|_| SnapshotError::OutOfMemory { commit: *commit })?;
        let place = self.writer.add_seen(number, kind, content, seen);
        let place = place.map_err(|error| not_copied(self.request, id, error))?;
        pack::make_room(&mut self.lines, MOST_OBJECTS as usize).map_err(|error| failed(self.request, error))?;
        self.lines.push((id, place));
        self.bytes = self.bytes.saturating_add(content.len());
        if self.writer.length() > self.room {
            return Err(SnapshotError::addition_too_large(*commit, "bytes", limits.tree_bytes, "limits.treeBytes"));
        }
        Ok(())
    }

    /// Completes the pack. Returns its name.
    fn finish(self) -> Result<String, SnapshotError> {
        let Self { writer, lines, request, .. } = self;
        let line = |number: u32| lines.get(number as usize).copied().unwrap_or((Oid::ZERO_SHA1, 0));
        let name = writer.finish(line).map_err(|error| SnapshotError::io("write", FILE.as_bytes(), error))?;
        let nothing = || SnapshotError::Incomplete { commit: request.commit, source: Cause::new("it has no object") };
        name.ok_or_else(nothing)
    }
}

/// The meaning of a pack that could not be made.
fn failed(request: &TreeRequest, error: PackError) -> SnapshotError {
    let commit = request.commit;
    match error {
        PackError::Disk(error) => SnapshotError::io("write", FILE.as_bytes(), error),
        PackError::OutOfMemory => SnapshotError::OutOfMemory { commit },
        error => SnapshotError::Incomplete { commit, source: Cause::new(chain(&error)) },
    }
}

/// The meaning of an object that could not be copied into it.
fn not_copied(request: &TreeRequest, id: Oid, error: PackError) -> SnapshotError {
    match error {
        PackError::Disk(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            blob::unreadable(request.commit, id, error)
        }
        // Of the disk with the segment, or of that with the pack.
        PackError::Disk(error) => SnapshotError::io("copy a segment into", FILE.as_bytes(), error),
        error => failed(request, error),
    }
}

/// The id of a file as a blob, and its length in bytes.
type Blob = (Oid, u64);

/// Puts the index behind the pack. Returns what both are as blobs.
fn join(staging: &Path, name: &str) -> io::Result<(Blob, Blob)> {
    let named = |end: &str| staging.join(format!("{name}.{end}"));
    let mut pack = File::options().read(true).write(true).open(named("pack"))?;
    let pack_blob = blob(&mut pack)?;
    let mut index = File::open(named("idx"))?;
    let index_blob = blob(&mut index)?;
    pack.set_len(index_offset(pack_blob.1))?;
    pack.seek(SeekFrom::End(0))?;
    index.seek(SeekFrom::Start(0))?;
    io::copy(&mut index, &mut pack)?;
    let end = pack.stream_position()?;
    // A device has a number of blocks.
    pack.set_len(end.next_multiple_of(ALIGNMENT))?;
    pack.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(named("pack"), staging.join(FILE))?;
    fs::remove_file(named("idx"))?;
    Ok((pack_blob, index_blob))
}

fn blob(file: &mut File) -> io::Result<Blob> {
    let length = file.metadata()?.len();
    let mut hash = Hash::new(ObjectType::Blob, length);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hash.id()?, length)),
            read => hash.update(&piece[..read]),
        }
    }
}
