//! Control of loop devices, as in loop(4) and `linux/loop.h`; libc has none of it.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_SET_STATUS64: libc::c_ulong = 0x4c04;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The smallest block size of a device, and of an image.
const SECTOR: u32 = 512;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    file: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const READ_ONLY: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Returns the number of a device that is free now. Another process may take it at any time.
pub(crate) fn free_number(control: BorrowedFd<'_>) -> nix::Result<u32> {
    // SAFETY: the descriptor is open for the duration of the call, which has no argument.
    let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
    Ok(number.unsigned_abs())
}

/// Attaches a file to a free device, read-only, until nothing has the device open (Linux 5.8). Reads go through the
/// page cache of the file.
pub(crate) fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> nix::Result<()> {
    // A descriptor is never negative.
    let file = file.as_raw_fd().unsigned_abs();
    let config = Config { file, block_size: SECTOR, info: READ_ONLY, reserved: [0; 8] };
    // SAFETY: the descriptor is open for the duration of the call, and the structure is the one that it reads.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    Errno::result(done).map(drop)
}

/// Does the same in two calls, for older kernels. A process that is killed between them leaves the file attached.
/// `device` is open for reading alone, which makes it read-only.
pub(crate) fn configure_in_two_calls(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: both descriptors are open for the duration of the call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD as _, file.as_raw_fd()) })?;
    let info = READ_ONLY;
    // SAFETY: the descriptor is open for the duration of the call, and the structure is the one that it reads.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64 as _, &raw const info) };
    Errno::result(done).map(drop).inspect_err(|_| {
        // SAFETY: the descriptor is open for the duration of the call, which has no argument.
        let _attached = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_size_that_the_kernel_expects() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
