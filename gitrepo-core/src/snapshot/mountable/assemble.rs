//! Makes the image of a checked manifest, in the parent. The repository has the segments by then.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use git2::Oid;
use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;

use super::IMAGE;
use super::device_name;
use super::links;
use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use super::listed::Node;
use super::listed::untrusted;
use crate::content;
use crate::error::Cause;
use crate::error::chain;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir;
use crate::snapshot::image;
use crate::snapshot::image::BlockSize;
use crate::snapshot::image::ImageError;
use crate::snapshot::image::View;
use crate::snapshot::symlink;
use crate::spec::Symlinks;

/// The alignment of blobs in a segment.
const BLOCK_SIZE: BlockSize = BlockSize::B512;
const _: () = assert!(BLOCK_SIZE.bytes() as u64 == content::ALIGNMENT);

/// Makes the image of a listed tree in `staging`, with links to the segments.
pub(super) fn assemble(
    listed: &Listed,
    staging: &Path,
    segments: &Segments,
    request: &TreeRequest,
) -> Result<(), SnapshotError> {
    let targets = segments.targets(listed, request)?;
    let devices = devices(listed);
    segments.link(&devices, staging)?;
    git_dir::pack::remove(staging, listed)?;
    write(staging, listed, segments, &targets, &devices, &Ownership::ROOT)?;
    links::write(staging, &targets)
}

/// The number of each segment as a device, in the order of their first use. Only those with content of files have one.
pub(super) fn devices(listed: &Listed) -> Vec<Option<usize>> {
    let mut devices = vec![None; listed.segment_count()];
    let mut count = 0;
    for node in &listed.nodes {
        let Kind::File { content: Extent { segment, size: 1.., .. }, .. } = node.kind else { continue };
        if devices[segment].is_none() {
            devices[segment] = Some(count);
            count += 1;
        }
    }
    devices
}

/// The segments that a manifest names, with the content of its files and links, and then the pack of its `.git`.
pub struct Segments {
    /// In the order of the manifest. `None` for one that is not needed.
    segments: Vec<Option<Arc<Segment>>>,
    /// The targets of links whose segment is not needed, by the ids of their blobs.
    links: HashMap<Oid, Arc<[u8]>>,
}

struct Segment {
    /// Where it is.
    directory: Arc<OwnedFd>,
    name: CString,
    file: File,
    /// In bytes.
    length: u64,
}

impl Segments {
    /// Opens the segments in a repository, and the pack beside the manifest.
    pub(crate) fn of_repository(repository: &Path, staging: &Path, listed: &Listed) -> Result<Self, SnapshotError> {
        let name = content::DIRECTORY.as_bytes();
        let opened = CString::new(name).map_err(|_| Errno::EINVAL);
        let directory = opened
            .and_then(|name| Beneath::new(repository)?.open(&name))
            .map_err(|error| SnapshotError::io("open", name, error))?;
        let directory = Arc::new(directory);
        let segment = |stem: &String| {
            Segment::open(&directory, &format!("{stem}.{}", content::CONTENT)).map(|segment| Some(Arc::new(segment)))
        };
        let mut segments: Vec<_> = listed.segments.iter().map(segment).collect::<Result<_, _>>()?;
        if listed.is_packed() {
            let staging = Arc::new(open_directory(staging)?);
            segments.push(Some(Arc::new(Segment::open(&staging, git_dir::pack::FILE)?)));
        }
        Self { segments, links: HashMap::new() }.checked(listed)
    }

    /// Opens those segments that are devices of a finished snapshot.
    pub(super) fn of_snapshot(
        snapshot: &Path,
        listed: &Listed,
        devices: &[Option<usize>],
    ) -> Result<Self, SnapshotError> {
        let directory = Arc::new(open_directory(snapshot)?);
        let segment = |device: usize| Segment::open(&directory, &device_name(device)).map(Arc::new);
        let segments = devices.iter().map(|device| device.map(segment).transpose());
        Self { segments: segments.collect::<Result<_, _>>()?, links: HashMap::new() }.checked(listed)
    }

    /// Checks that each extent of the manifest is inside a segment.
    fn checked(self, listed: &Listed) -> Result<Self, SnapshotError> {
        for node in &listed.nodes {
            if let Kind::File { content: extent, .. } | Kind::Symlink { target: extent } = node.kind {
                self.check(&extent).map_err(|reason| untrusted(&listed.path(node), reason))?;
            }
        }
        Ok(self)
    }

    fn check(&self, extent: &Extent) -> Result<(), &'static str> {
        let Some(segment) = &self.segments[extent.segment] else { return Ok(()) };
        match extent.offset.checked_add(extent.size) {
            Some(end) if end <= segment.length => Ok(()),
            _ => Err("its content is not inside its segment"),
        }
    }

    /// Reads the targets of all links, in their order, and checks them.
    fn targets(&self, listed: &Listed, request: &TreeRequest) -> Result<Vec<Vec<u8>>, SnapshotError> {
        let link = |node: &Node| match node.kind {
            Kind::Symlink { target } => Some(self.target(listed, node, &target, request)),
            _ => None,
        };
        listed.nodes.iter().filter_map(link).collect()
    }

    fn target(
        &self,
        listed: &Listed,
        node: &Node,
        extent: &Extent,
        request: &TreeRequest,
    ) -> Result<Vec<u8>, SnapshotError> {
        // It has at most 4095 bytes.
        let mut target = vec![0; usize::try_from(extent.size).unwrap_or_default()];
        self.read_exact_at(extent, &mut target, 0)
            .map_err(|error| SnapshotError::io("read link", &listed.path(node), error))?;
        check_target(listed, node, &target, request)?;
        Ok(target)
    }

    /// The file of a segment by its number in the manifest; `None` if it is not needed.
    pub(super) fn file(&self, segment: usize) -> Option<&File> {
        self.segments.get(segment)?.as_ref().map(|segment| &segment.file)
    }

    /// Reads a part of a blob.
    pub(crate) fn read_exact_at(&self, extent: &Extent, into: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(segment) = &self.segments[extent.segment] {
            return segment.file.read_exact_at(into, extent.offset + offset);
        }
        let target = self.links.get(&extent.id).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).ok().and_then(|offset| target.get(offset..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Remembers those targets of the links of a finished snapshot that are in no open segment.
    pub(super) fn with_links(mut self, listed: &Listed, targets: Vec<Vec<u8>>) -> Self {
        let links = listed.nodes.iter().filter_map(|node| match node.kind {
            Kind::Symlink { target } => Some(target),
            _ => None,
        });
        let kept = links.zip(targets).filter(|(extent, _)| !self.has(extent.segment));
        self.links = kept.map(|(extent, target)| (extent.id, target.into())).collect();
        self
    }

    /// How many targets of links are remembered.
    #[cfg(test)]
    pub(super) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Whether a segment is needed.
    pub(super) fn has(&self, segment: usize) -> bool {
        self.segments.get(segment).is_some_and(Option::is_some)
    }

    /// Puts together segments of several manifests: for each number, whose it is and its number there.
    pub(super) fn of_several(all: &[&Self], numbers: &[(usize, usize)]) -> Self {
        let segments = numbers.iter().map(|&(one, segment)| all[one].segments[segment].clone()).collect();
        let links = all.iter().flat_map(|one| &one.links).map(|(id, target)| (*id, Arc::clone(target))).collect();
        Self { segments, links }
    }

    /// Links the segments that are devices into a snapshot.
    pub(super) fn link(&self, devices: &[Option<usize>], staging: &Path) -> Result<(), SnapshotError> {
        for (segment, device) in self.segments.iter().zip(devices) {
            let (Some(segment), Some(device)) = (segment, device) else { continue };
            let name = device_name(*device);
            let new = staging.join(&name);
            unistd::linkat(segment.directory.as_fd(), segment.name.as_c_str(), fcntl::AT_FDCWD, &new, AtFlags::empty())
                .map_err(|error| SnapshotError::io("link a segment as", name.as_bytes(), error))?;
        }
        Ok(())
    }
}

/// Checks the target of a link. An honest worker has already refused what fails here.
pub(crate) fn check_target(
    listed: &Listed,
    node: &Node,
    target: &[u8],
    request: &TreeRequest,
) -> Result<(), SnapshotError> {
    if target.contains(&0) {
        return Err(untrusted(&listed.path(node), "it is a link to a path with a NUL in it"));
    }
    let rejects = request.tree.symlinks == Symlinks::RejectEscaping;
    if rejects && symlink::may_escape(target, listed.depth(node)) {
        return Err(untrusted(&listed.path(node), "it is a link that may leave the volume"));
    }
    Ok(())
}

impl Segment {
    fn open(directory: &Arc<OwnedFd>, name: &str) -> Result<Self, SnapshotError> {
        let refused = |reason| untrusted(name.as_bytes(), reason);
        let failed = |error: io::Error| SnapshotError::io("open", name.as_bytes(), error);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match fcntl::openat(directory.as_ref(), name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Err(refused("there is no such segment")),
            Err(Errno::ELOOP) => return Err(refused("it is not a regular file")),
            Err(error) => return Err(failed(error.into())),
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(refused("it is not a regular file"));
        }
        if !found.len().is_multiple_of(content::ALIGNMENT) {
            return Err(refused("its last block is not whole"));
        }
        let name = CString::new(name).map_err(|_| refused("its name contains a NUL"))?;
        Ok(Self { directory: Arc::clone(directory), name, file, length: found.len() })
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, SnapshotError> {
    let opened = Beneath::new(path).and_then(|directory| directory.open(c""));
    opened.map_err(|error| SnapshotError::io("open", b"", error))
}

/// The metadata of an image, and the content of its last device: the files of `.git` that we write. Without any, there is
/// no such device.
pub(super) struct Built {
    pub(super) image: Vec<u8>,
    pub(super) written: Option<Vec<u8>>,
}

/// Writes the image into a snapshot that has its devices.
pub(super) fn write(
    staging: &Path,
    listed: &Listed,
    segments: &Segments,
    targets: &[Vec<u8>],
    devices: &[Option<usize>],
    ownership: &Ownership,
) -> Result<(), SnapshotError> {
    let Built { image, written } = build(listed, segments, targets, devices, ownership)?;
    let write = |name: &str, content: &[u8]| {
        let mut file = File::options().write(true).create_new(true).mode(0o444).open(staging.join(name))?;
        file.write_all(content)
    };
    let put = |name: &str, content: &[u8]| {
        write(name, content).map_err(|error| SnapshotError::io("write", name.as_bytes(), error))
    };
    written.map_or(Ok(()), |written| put(&device_name(count(devices)), &written))?;
    put(IMAGE, &image)
}

/// How many segments are devices.
pub(super) fn count(devices: &[Option<usize>]) -> usize {
    devices.iter().flatten().count()
}

pub(super) fn build(
    listed: &Listed,
    segments: &Segments,
    targets: &[Vec<u8>],
    devices: &[Option<usize>],
    ownership: &Ownership,
) -> Result<Built, SnapshotError> {
    let mut targets = targets.iter();
    let (places, written_length) = git_dir::device::places(&listed.written);
    let kind = |kind: &Kind| match kind {
        Kind::Directory => image::Kind::Directory,
        Kind::Written { number, size } => {
            let content = image::Extent { device: count(devices), offset: places[*number], size: *size };
            image::Kind::File { executable: false, content }
        }
        Kind::Symlink { .. } => image::Kind::Symlink { target: targets.next().map_or(&[], Vec::as_slice) },
        Kind::File { executable, content: Extent { segment, offset, size, .. } } => {
            // A file with nothing in it needs no device.
            let device = devices[*segment].unwrap_or_default();
            let content = image::Extent { device, offset: *offset, size: *size };
            image::Kind::File { executable: *executable, content }
        }
    };
    let mut kind = kind;
    let nodes: Vec<_> = listed
        .nodes
        .iter()
        .map(|node| {
            let (time, kind) = (git_dir::time_of(listed, node), kind(&node.kind));
            image::Node { parent: node.parent, name: listed.name(node), kind, time }
        })
        .collect();
    let mut lengths = vec![0; count(devices)];
    for (segment, device) in segments.segments.iter().zip(devices) {
        if let (Some(segment), Some(device)) = (segment, device) {
            lengths[*device] = segment.length;
        }
    }
    lengths.extend((written_length > 0).then_some(written_length));
    let tree = image::Tree { nodes: &nodes, devices: &lengths, block_size: BLOCK_SIZE };
    let Ownership { uid, gid, .. } = *ownership;
    let view = View { mtime: listed.time, uid, gid, modes: ownership.modes() };
    let built = image::build_numbered(&tree, &view, &listed.uuid(ownership)).map_err(|error| match &error {
        ImageError::Entry { path, problem } => untrusted(path.as_bytes(), &problem.to_string()),
        _ => SnapshotError::Io {
            action: "make".to_owned(),
            path: IMAGE.to_owned(),
            kind: error.kind(),
            source: Cause::new(chain(&error)),
        },
    })?;
    let written = || git_dir::device::content(listed, &places, written_length, &built.inodes, ownership);
    let written = (written_length > 0).then(written).transpose()?;
    Ok(Built { image: built.bytes, written })
}
