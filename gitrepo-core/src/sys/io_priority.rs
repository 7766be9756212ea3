//! The I/O priority of a thread (ioprio_set(2)), which libc and nix do not wrap.

use nix::errno::Errno;

/// From `linux/ioprio.h`: the calling thread if `who` is 0, and the class that gets the disk when nobody else wants it.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
const IOPRIO_CLASS_SHIFT: libc::c_int = 13;

/// Lets the calling thread read and write only while the disk is idle. Not every I/O scheduler honours it.
pub(crate) fn be_idle() -> nix::Result<()> {
    let idle = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
    // SAFETY: the call takes three integers, and touches no memory of ours.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, idle) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_becomes_idle() {
        // SAFETY: as above.
        let class = || unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) } >> IOPRIO_CLASS_SHIFT;
        let before = class();
        let idle = std::thread::spawn(move || be_idle().map(|()| class())).join().unwrap();
        assert_eq!(idle, Ok(IOPRIO_CLASS_IDLE.into()));
        assert_eq!(class(), before);
    }
}
