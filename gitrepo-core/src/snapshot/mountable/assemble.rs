//! Makes the image of a checked manifest, in the parent. The repository has the segments by then.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;

use super::IMAGE;
use super::device_name;
use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use super::listed::Node;
use super::listed::untrusted;
use crate::content;
use crate::error::Cause;
use crate::error::chain;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::image;
use crate::snapshot::image::BlockSize;
use crate::snapshot::image::ImageError;
use crate::snapshot::image::Modes;
use crate::snapshot::image::View;
use crate::snapshot::symlink;
use crate::spec::Symlinks;

/// The alignment of blobs in a segment.
const BLOCK_SIZE: BlockSize = BlockSize::B512;
const _: () = assert!(BLOCK_SIZE.bytes() as u64 == content::ALIGNMENT);

/// Makes the image of a listed tree in `staging`, with links to the segments of the repository.
pub(super) fn assemble(
    listed: &Listed,
    staging: &Path,
    repository: &Path,
    request: &TreeRequest,
) -> Result<(), SnapshotError> {
    let segments = Segments::open(repository, listed)?;
    let targets = segments.targets(listed, request)?;
    let devices = segments.link(listed, staging)?;
    let image = build(listed, &segments, &targets, &devices)?;
    let path = staging.join(IMAGE);
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o444).open(&path)?;
        file.write_all(&image)
    };
    write().map_err(|error| SnapshotError::io("write", IMAGE.as_bytes(), error))
}

/// The segments that a manifest names, in their order.
pub(crate) struct Segments {
    directory: OwnedFd,
    files: Vec<(CString, File)>,
    /// Their lengths in bytes.
    lengths: Vec<u64>,
}

impl Segments {
    /// Opens the segments, and checks that each extent of the manifest is inside one.
    pub(crate) fn open(repository: &Path, listed: &Listed) -> Result<Self, SnapshotError> {
        let name = content::DIRECTORY.as_bytes();
        let opened = CString::new(name).map_err(|_| Errno::EINVAL);
        let directory = opened
            .and_then(|name| Beneath::new(repository)?.open(&name))
            .map_err(|error| SnapshotError::io("open", name, error))?;
        let mut segments = Self { directory, files: Vec::new(), lengths: Vec::new() };
        for stem in &listed.segments {
            let (name, file, length) = segments.open_one(stem)?;
            segments.files.push((name, file));
            segments.lengths.push(length);
        }
        for node in &listed.nodes {
            if let Kind::File { content: extent, .. } | Kind::Symlink { target: extent } = node.kind {
                segments.check(&extent).map_err(|reason| untrusted(&listed.path(node), reason))?;
            }
        }
        Ok(segments)
    }

    fn open_one(&self, stem: &str) -> Result<(CString, File, u64), SnapshotError> {
        let name = format!("{stem}.{}", content::CONTENT);
        let refused = |reason| untrusted(name.as_bytes(), reason);
        let failed = |error: io::Error| SnapshotError::io("open", name.as_bytes(), error);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match fcntl::openat(&self.directory, name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Err(refused("the repository has no such segment")),
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
        let name = CString::new(name.as_bytes()).map_err(|_| refused("its name contains a NUL"))?;
        Ok((name, file, found.len()))
    }

    fn check(&self, extent: &Extent) -> Result<(), &'static str> {
        match extent.offset.checked_add(extent.size) {
            Some(end) if end <= self.lengths[extent.segment] => Ok(()),
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

    pub(crate) fn target(
        &self,
        listed: &Listed,
        node: &Node,
        extent: &Extent,
        request: &TreeRequest,
    ) -> Result<Vec<u8>, SnapshotError> {
        // It has at most 4095 bytes.
        let mut target = vec![0; usize::try_from(extent.size).unwrap_or_default()];
        let (_, file) = &self.files[extent.segment];
        file.read_exact_at(&mut target, extent.offset)
            .map_err(|error| SnapshotError::io("read link", &listed.path(node), error))?;
        if target.contains(&0) {
            return Err(untrusted(&listed.path(node), "it is a link to a path with a NUL in it"));
        }
        let rejects = request.tree.symlinks == Symlinks::RejectEscaping;
        if rejects && symlink::may_escape(&target, listed.depth(node)) {
            return Err(untrusted(&listed.path(node), "it is a link that may leave the volume"));
        }
        Ok(target)
    }

    /// Reads a part of a blob.
    pub(crate) fn read_exact_at(&self, extent: &Extent, into: &mut [u8], offset: u64) -> io::Result<()> {
        let (_, file) = &self.files[extent.segment];
        file.read_exact_at(into, extent.offset + offset)
    }

    /// Links those segments that have content of files into the snapshot, in the order of their first use. Returns the
    /// number of each as a device.
    fn link(&self, listed: &Listed, staging: &Path) -> Result<Vec<Option<usize>>, SnapshotError> {
        let mut devices = vec![None; self.files.len()];
        let mut count = 0;
        for node in &listed.nodes {
            let Kind::File { content: Extent { segment, size: 1.., .. }, .. } = node.kind else { continue };
            if devices[segment].is_some() {
                continue;
            }
            let name = device_name(count);
            let (segment_name, _) = &self.files[segment];
            let new = staging.join(&name);
            unistd::linkat(self.directory.as_fd(), segment_name.as_c_str(), fcntl::AT_FDCWD, &new, AtFlags::empty())
                .map_err(|error| SnapshotError::io("link a segment as", name.as_bytes(), error))?;
            devices[segment] = Some(count);
            count += 1;
        }
        Ok(devices)
    }
}

fn build(
    listed: &Listed,
    segments: &Segments,
    targets: &[Vec<u8>],
    devices: &[Option<usize>],
) -> Result<Vec<u8>, SnapshotError> {
    let mut targets = targets.iter();
    let kind = |kind: &Kind| match kind {
        Kind::Directory => image::Kind::Directory,
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
        .map(|node| image::Node { parent: node.parent, name: listed.name(node), kind: kind(&node.kind) })
        .collect();
    let mut lengths = vec![0; devices.iter().flatten().count()];
    for (segment, device) in devices.iter().enumerate() {
        if let Some(device) = device {
            lengths[*device] = segments.lengths[segment];
        }
    }
    let tree = image::Tree { nodes: &nodes, devices: &lengths, block_size: BLOCK_SIZE };
    let view = View { mtime: listed.time, uid: 0, gid: 0, modes: Modes::PLAIN };
    image::build(&tree, &view, &listed.uuid).map_err(|error| match &error {
        ImageError::Entry { path, problem } => untrusted(path.as_bytes(), &problem.to_string()),
        _ => SnapshotError::Io {
            action: "make".to_owned(),
            path: IMAGE.to_owned(),
            kind: error.kind(),
            source: Cause::new(chain(&error)),
        },
    })
}
