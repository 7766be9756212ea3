//! The only unsafe code of this crate: an allocator that wipes memory before it frees it, the settings of the C library's
//! allocator, and descriptors in the asynchronous runtime.
#![allow(unsafe_code)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An allocator that, once [`Wiping::begin`] was called, overwrites memory before it is freed.
///
/// Secrets pass through buffers of the libraries that read and decode requests. These libraries do not wipe them.
pub struct Wiping<A = System> {
    inner: A,
    is_active: AtomicBool,
}

impl<A> Wiping<A> {
    /// Wraps an allocator. Does not wipe yet.
    pub const fn new(inner: A) -> Self {
        Self { inner, is_active: AtomicBool::new(false) }
    }

    /// Wipes from now on, including memory that was allocated before.
    pub fn begin(&self) {
        self.is_active.store(true, Ordering::Relaxed);
    }

    fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }
}

// SAFETY: the inner allocator allocates and frees all memory, with the layouts of the caller. `realloc` returns new
// memory with the old content up to the smaller size, or null, and then the old memory stays as it is.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if self.is_active() {
            // SAFETY: the caller owns `layout.size()` bytes at `memory`. The compiler may leave out an ordinary write to
            // memory that is freed next, but not this call.
            unsafe { nix::libc::explicit_bzero(memory.cast(), layout.size()) };
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.inner.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.is_active() {
            // SAFETY: the caller keeps the contract of `realloc`.
            return unsafe { self.inner.realloc(memory, layout, size) };
        }
        // The inner allocator may move the content, and would not wipe what it moves away from.
        // SAFETY: the caller guarantees that `size` is not zero, and valid with this alignment.
        let moved = unsafe { self.inner.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both are valid for the smaller size, and new memory does not overlap with memory in use.
            unsafe { std::ptr::copy_nonoverlapping(memory, moved, layout.size().min(size)) };
            // SAFETY: the memory has this layout, and the caller uses only what this returns from now on.
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}

/// Makes all threads share one heap. Call it before there are threads.
///
/// The allocator of glibc gives threads heaps of their own, up to eight per core, and each keeps about what its largest
/// call needed: with many short-lived threads, memory grows for hours. Other allocators have nothing to set.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers are involved. It fails only for an unknown setting, and then nothing changes.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1)
    };
}

/// Returns unused memory to the system.
pub fn return_unused_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it releases only pages that hold no allocated memory.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

/// Waits in the runtime for a descriptor to be readable.
///
/// # Errors
///
/// If `epoll` does not take it.
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is open and stays the same until it is dropped, and `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Records the content of memory at the moment it is freed.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<Vec<u8>>>);

    // SAFETY: `System` does the work.
    unsafe impl GlobalAlloc for Recorder {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller keeps the contract.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: the test has initialised all of it.
            let content = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
            self.0.lock().unwrap().push(content.to_vec());
            // SAFETY: the caller keeps the contract.
            unsafe { System.dealloc(memory, layout) };
        }
    }

    /// Allocates 64 bytes, reallocates them to each size, and frees them. Returns what was in freed memory.
    fn freed(allocator: &Wiping<Recorder>, sizes: &[usize]) -> Vec<Vec<u8>> {
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: each call gets the memory and the layout of the call before.
        unsafe {
            let mut memory = allocator.alloc(layout(64));
            memory.write_bytes(b'x', 64);
            let mut size = 64;
            for next in sizes {
                memory = allocator.realloc(memory, layout(size), *next);
                let kept = std::slice::from_raw_parts(memory, size.min(*next));
                assert!(kept.iter().all(|byte| *byte == b'x'), "the content moves along");
                memory.write_bytes(b'x', *next);
                size = *next;
            }
            allocator.dealloc(memory, layout(size));
        }
        std::mem::take(&mut *allocator.inner.0.lock().unwrap())
    }

    #[test]
    fn memory_is_wiped_before_it_is_freed_or_left_behind() {
        let allocator = Wiping::new(Recorder::default());
        assert!(freed(&allocator, &[]).concat().contains(&b'x'), "it does not wipe before it is told to");
        allocator.begin();
        let freed = freed(&allocator, &[8, 4096, 100]);
        assert_eq!(freed.iter().map(Vec::len).collect::<Vec<_>>(), [64, 8, 4096, 100]);
        assert!(freed.concat().iter().all(|byte| *byte == 0), "{freed:?}");
    }
}
