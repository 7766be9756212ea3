//! fs-verity (Documentation/filesystems/fsverity.rst): the kernel compares each block of a file with a tree of hashes when
//! it reads it, and nobody can write to the file any more. libc has neither the calls nor the structure.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// From `linux/fsverity.h`.
const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
const FS_IOC_MEASURE_VERITY: libc::c_ulong = 0xc004_6686;
const FS_VERITY_HASH_ALG_SHA256: u32 = 1;

/// Length of a SHA-256, in bytes.
const DIGEST: u16 = 32;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    more_reserved: [u64; 11],
}

/// `struct fsverity_digest`, with room for the digest.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST as usize],
}

/// Seals a file, which is open for reading alone, and for writing nowhere. Reads all of it.
///
/// # Errors
///
/// `EEXIST` if it is sealed; `ENOTTY` or `EOPNOTSUPP` if the kernel or the filesystem has no fs-verity; `EINVAL` if it has
/// none with blocks of 4096 bytes: before Linux 6.3 they must be as large as a page.
pub(crate) fn enable(file: &File) -> nix::Result<()> {
    let argument = Enable {
        version: 1,
        hash_algorithm: FS_VERITY_HASH_ALG_SHA256,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        more_reserved: [0; 11],
    };
    // SAFETY: `file` keeps the descriptor open, and the structure is the one that the call reads; its addresses are null
    // and their lengths 0.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY as _, &raw const argument) }).map(drop)
}

/// Whether a file is sealed. Then a read gives EIO if its content is not what was sealed.
pub(crate) fn is_enabled(file: &File) -> bool {
    let mut measured = Measured { algorithm: 0, size: DIGEST, digest: [0; DIGEST as usize] };
    // SAFETY: `file` keeps the descriptor open, and the call writes no more than `size` bytes after the head.
    unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY as _, &raw mut measured) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_size_that_the_kernel_expects() {
        assert_eq!((size_of::<Enable>(), size_of::<Measured>()), (128, 36));
    }

    #[test]
    fn a_file_that_is_not_sealed_is_not_taken_for_one() {
        assert!(!is_enabled(&tempfile::tempfile().unwrap()));
    }
}
