//! Whether images in a directory can be mounted, and how: tries it.
//!
//! It depends on the kernel, on the filesystem, and in a container on its devices and filter. So nothing but a trial
//! tells.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::Backing;
use super::filesystem::Parts;
use crate::mount::MountError;
use crate::mount::Role;
use crate::mount::directory;
use crate::mount::hidden::Hidden;
use crate::mount::linux::LinuxMounter;
use crate::mount::private_directory::FailedStep;

/// How images can be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSupport {
    /// What the kernel reads them from.
    pub backing: Backing,
    /// The smallest block size that works: 512, or 4096 before Linux 6.4.
    pub block_size: u32,
}

impl LinuxMounter {
    /// Finds out how images in a directory can be mounted, by mounting a tiny one. The mount is never visible. The
    /// image is a file in the directory that has a name, `probe.<random>`, only for an instant.
    ///
    /// # Errors
    ///
    /// [`MountError::NoImages`] says why none can be mounted.
    pub fn image_support(&self, directory: &Path) -> Result<ImageSupport, MountError> {
        let directory_of_files = directory::open(directory, Role::Source)?;
        let failed = |(step, source)| MountError::NoImages { directory: directory.into(), step, source };
        let place = PathBuf::from(format!("/proc/self/fd/{}", directory_of_files.as_raw_fd()));
        match self.try_block_size(&place, 9) {
            // The kernel may refuse small blocks, or all images.
            Err((_, error)) if error.kind() == io::ErrorKind::InvalidInput => self.try_block_size(&place, 12),
            tried => tried,
        }
        .map_err(failed)
    }

    fn try_block_size(&self, place: &Path, block_bits: u8) -> Result<ImageSupport, FailedStep> {
        let file = unnamed(place, &image(block_bits)).map_err(|error| ("write a tiny image", error))?;
        // It is its own device.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let files = Parts::files(&path, vec![path.clone()]);
        let loop_devices = || Parts::loop_devices(&file, [file.try_clone()].into_iter());
        let (mounted, backing) = Hidden::mount_either(&files, loop_devices, self.strategy(), self.workdir())?;
        let content = mounted.read(FILE).map_err(|error| ("read a file in a tiny image", error))?;
        if content != CONTENT {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it has other content");
            return Err(("read a file in a tiny image", error));
        }
        Ok(ImageSupport { backing, block_size: 1 << block_bits })
    }
}

/// Creates a file in a directory, and removes its name.
fn unnamed(place: &Path, content: &[u8]) -> io::Result<File> {
    let path = place.join(format!("probe.{:016x}", getrandom::u64().map_err(io::Error::other)?));
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(path)?;
    file.write_all(content)?;
    Ok(file)
}

const FILE: &str = "a";

const CONTENT: &[u8] = b"content";

/// An image of one file, `a`, whose content is on a device: at the beginning of the image itself, where EROFS leaves
/// 1 KiB free.
const fn image(block_bits: u8) -> [u8; 4096] {
    const ROOT: usize = 1280;
    const ENTRIES: usize = ROOT + 32;
    const NAMES: usize = 3 * 12;
    const INODE: usize = 1376;
    let mut image = [0; 4096];
    put(&mut image, 0, CONTENT);

    // struct erofs_super_block
    let blocks = 1 << (12 - block_bits);
    put(&mut image, 1024, &0xe0f5_e1e2_u32.to_le_bytes()); // magic
    image[1024 + 12] = block_bits;
    put(&mut image, 1024 + 14, &((ROOT / 32) as u16).to_le_bytes()); // root_nid
    image[1024 + 16] = 2; // inos
    image[1024 + 36] = blocks;
    put(&mut image, 1024 + 48, b"gitrepo's probe."); // uuid
    image[1024 + 80] = 4 | 8; // feature_incompat: chunked files, a device table
    image[1024 + 86] = 1; // extra_devices
    image[1024 + 88] = (1152 / 128) as u8; // devt_slotoff

    // struct erofs_deviceslot
    image[1152 + 64] = blocks;

    // struct erofs_inode_compact: the root, with its entries behind it (flat inline)
    image[ROOT] = 2 << 1; // i_format
    put(&mut image, ROOT + 4, &0o40755_u16.to_le_bytes()); // i_mode
    image[ROOT + 6] = 2; // i_nlink
    image[ROOT + 8] = (NAMES + 4) as u8; // i_size
    image[ROOT + 20] = 1; // i_ino

    // struct erofs_dirent: ".", ".." and "a"
    let mut at = ENTRIES;
    let mut name = NAMES;
    let mut entry = 0;
    while entry < 3 {
        let (inode, length, kind) = [(ROOT, 1, 2), (ROOT, 2, 2), (INODE, 1, 1)][entry];
        image[at] = (inode / 32) as u8; // nid
        image[at + 8] = name as u8; // nameoff
        image[at + 10] = kind; // file_type: regular, directory
        at += 12;
        name += length;
        entry += 1;
    }
    put(&mut image, ENTRIES + NAMES, b"...a");

    // struct erofs_inode_compact: the file, with its chunk behind it (chunk-based)
    image[INODE] = 4 << 1; // i_format
    put(&mut image, INODE + 4, &0o100444_u16.to_le_bytes()); // i_mode
    image[INODE + 6] = 1; // i_nlink
    image[INODE + 8] = CONTENT.len() as u8; // i_size
    image[INODE + 16] = 0x20; // i_u.c.format: chunks of one block, with indexes
    image[INODE + 20] = 2; // i_ino

    // struct erofs_inode_chunk_index: block 0 of the device
    image[INODE + 32 + 2] = 1; // device_id
    image
}

const fn put(image: &mut [u8; 4096], at: usize, bytes: &[u8]) {
    let mut index = 0;
    while index < bytes.len() {
        image[at + index] = bytes[index];
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::linux::Strategy;

    /// The block size of kernels before Linux 6.4.
    #[test]
    fn the_tiny_image_is_right_with_each_block_size() {
        if !nix::unistd::geteuid().is_root() || Strategy::of_this_kernel() != Strategy::Detached {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let mounter = LinuxMounter::new(place.path().join("mounting"));
        if mounter.image_support(place.path()).is_err() {
            return;
        }
        for block_bits in 9..=12 {
            let support = mounter.try_block_size(place.path(), block_bits).unwrap();
            assert_eq!(support.block_size, 1 << block_bits);
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
