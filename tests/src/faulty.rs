//! A filesystem that fails or hangs, like a broken disk of a store.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;

use crate::namespace;
use crate::require;

/// How it answers every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// With an input/output error.
    Fails,
    /// Not at all, until it is dropped.
    Hangs,
}

/// A FUSE filesystem over a directory, in the thread's private mount namespace, until dropped.
pub struct FaultyFs {
    target: PathBuf,
    ends: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

/// From fuse(4), `linux/fuse.h`: requests that get no answer, or not an error.
const INIT: u32 = 26;
const SILENT: [u32; 3] = [2, 36, 42];
const VERSION: [u32; 2] = [7, 31];

/// Length of a request's header.
const HEADER: usize = 40;

/// Size of `fuse_init_out`.
const INIT_ANSWER: usize = 64;

impl FaultyFs {
    /// Covers `target` in a [private mount namespace][namespace::private_mounts]. `None` without root or FUSE.
    pub fn over(target: &Path, fault: Fault) -> Option<Self> {
        if !require::root("to mount") || !require::feature(Path::new("/dev/fuse").exists(), "FUSE") {
            return None;
        }
        namespace::private_mounts();
        let device =
            File::options().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        nix::mount::mount(Some("faulty"), target, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let server = std::thread::spawn({
            let ends = Arc::clone(&ends);
            move || serve(device, fault, &ends)
        });
        Some(Self { target: target.to_owned(), ends, server: Some(server) })
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        // The device closes first, so that hanging callers get an error.
        self.ends.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
        let _ = nix::mount::umount2(&self.target, MntFlags::MNT_DETACH);
    }
}

fn serve(mut device: File, fault: Fault, ends: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    while !ends.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut ready, PollTimeout::from(20_u8)).ok();
        let length = match device.read(&mut request) {
            Ok(length) if length >= HEADER => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => continue,
            _ => return,
        };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let opcode = word(4);
        debug_assert_eq!(word(0) as usize, length);
        let number: [u8; 8] = request[8..16].try_into().unwrap();
        let answer = match opcode {
            INIT => {
                let mut body = vec![0; INIT_ANSWER];
                for (at, version) in VERSION.into_iter().enumerate() {
                    body[at * 4..at * 4 + 4].copy_from_slice(&version.to_ne_bytes());
                }
                // `max_write`, whose minimum is 4 KiB.
                body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
                answer(0, number, &body)
            }
            opcode if SILENT.contains(&opcode) || fault == Fault::Hangs => continue,
            _ => answer(-nix::libc::EIO, number, &[]),
        };
        // The caller may be gone.
        drop(device.write(&answer));
    }
}

fn answer(error: i32, number: [u8; 8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap();
    [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &number, body].concat()
}
