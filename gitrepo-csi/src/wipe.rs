//! Wipes secrets from the driver's memory.
//!
//! | where a secret is | what wipes it |
//! |---|---|
//! | values of this project | `Secret` and similar types, when dropped |
//! | buffers and messages of libraries | the allocator, when they are freed |
//! | the stack: for instance the last block that was hashed | [`after`], when the work of a thread is over |
//!
//! The event loop reads no secret: whatever looks into one runs on a thread.
//!
//! The kernel's own copies, in the buffers of sockets and pipes, are out of reach.

pub use crate::sys::Wiping;

/// How much of the stack to wipe, in bytes: several times what core needs to read a request and to hand it to a worker.
const DEPTH: usize = 128 * 1024;

/// Runs `work`, and then overwrites the stack that it used, even if it panics.
pub fn after<T>(work: impl FnOnce() -> T) -> T {
    let _overwrite = Overwrite;
    on_a_frame_of_its_own(work)
}

struct Overwrite;

impl Drop for Overwrite {
    fn drop(&mut self) {
        overwrite();
    }
}

/// Inlined, the work would have its values on the frame of the caller.
#[inline(never)]
fn on_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Overwrites the stack below the caller.
#[inline(never)]
fn overwrite() {
    let mut area = [0_u8; DEPTH];
    // The compiler leaves out what nobody uses.
    std::hint::black_box(&mut area);
}
