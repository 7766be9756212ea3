//! Capabilities of the calling thread (capabilities(7)). Threads that it starts later, and programs that it runs,
//! inherit them.

use std::io;

use nix::errno::Errno;

/// Capabilities, by their numbers in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn of(numbers: impl IntoIterator<Item = u8>) -> Self {
        Self(numbers.into_iter().fold(0, |set, number| set | (1 << number)))
    }

    fn has(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    fn low(self) -> u32 {
        self.0 as u32
    }

    fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// As in `linux/capability.h`, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// The first of two elements contains the lower 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

static OWN_THREAD: Header = Header { version: 0x2008_0522, pid: 0 };

/// Drops every capability not in `kept`: effective, permitted, inheritable and ambient. A capability in `kept` that
/// this thread lacks is not gained. None can be regained.
pub(crate) fn keep(kept: Set) -> io::Result<()> {
    let permitted = Set(permitted()?.0 & kept.0);
    let word = |bits| Data { effective: bits, permitted: bits, inheritable: 0 };
    let data = [word(permitted.low()), word(permitted.high())];
    // SAFETY: both pointers are to live values of the layout that version 3 requires, and the kernel only reads them.
    // Ambient capabilities are dropped together with the inheritable ones.
    let changed = unsafe { libc::syscall(libc::SYS_capset, &raw const OWN_THREAD, data.as_ptr()) };
    Errno::result(changed).map(drop).map_err(io::Error::from)
}

fn permitted() -> io::Result<Set> {
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both pointers are to live values of the layout that version 3 requires: the kernel reads the first, and
    // writes both words of the second.
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw const OWN_THREAD, data.as_mut_ptr()) };
    Errno::result(read)?;
    Ok(Set(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32))
}

/// Removes every capability not in `kept` from the bounding set, so that no program can gain one.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub(crate) fn bound(kept: Set) -> io::Result<()> {
    for number in (0..64).filter(|number| !kept.has(*number)) {
        // SAFETY: the call takes numbers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            // Beyond the kernel's last capability.
            Err(Errno::EINVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_words_of_bits() {
        let set = Set::of([0, 21, 39]);
        assert_eq!((set.low(), set.high()), (1 << 21 | 1, 1 << 7));
        assert!(set.has(39) && !set.has(38) && !Set::NONE.has(0));
    }

    #[test]
    fn what_was_not_there_is_not_gained() {
        let thread = std::thread::spawn(|| {
            keep(Set::NONE).unwrap();
            keep(Set::of(0..64)).unwrap();
            assert_eq!(permitted().unwrap(), Set::NONE);
            assert_eq!(bound(Set::NONE).unwrap_err().raw_os_error(), Some(libc::EPERM));
        });
        thread.join().unwrap();
    }
}
