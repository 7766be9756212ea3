//! What the kernel says about a mount that fails.
//!
//! EROFS and overlayfs explain themselves in the kernel's log and not, so far, to the caller. Where the log may be read,
//! their messages become part of the error.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt;

use crate::error::Cause;

const LOG: &str = "/dev/kmsg";

/// The longest record that the kernel returns.
const RECORD: usize = 8192;

/// How many records to read: others write to the log, too.
const RECORDS: usize = 256;

/// How many messages to keep.
const MESSAGES: usize = 3;

/// The kernel's log from one moment on; empty if it may not be read, for example in a container.
pub(super) struct KernelLog {
    log: Option<File>,
    /// How the messages of the filesystem begin.
    prefix: &'static str,
}

impl KernelLog {
    /// Begins at the end of the log. Messages that begin with `prefix` count.
    pub(super) fn from_now_on(prefix: &'static str) -> Self {
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(LOG);
        let at_end = |mut log: File| log.seek(SeekFrom::End(0)).map(|_| log);
        Self { log: opened.and_then(at_end).ok(), prefix }
    }

    /// Returns what the filesystem has complained about since. A mount by somebody else that fails at the same time may be among
    /// it.
    pub(super) fn complaints(mut self) -> Option<Cause> {
        let mut said: Vec<String> = Vec::new();
        let mut record = [0; RECORD];
        for _ in 0..RECORDS {
            match self.log.as_mut()?.read(&mut record) {
                Ok(length) => said.extend(complaint(&record[..length], self.prefix)),
                // Records were overwritten before they could be read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        said.dedup();
        said.truncate(MESSAGES);
        (!said.is_empty()).then(|| Cause::new(said.join("; ")))
    }
}

/// Returns the message of a record, `level,number,time,flags;message`, if it is a warning or an error that begins with
/// `prefix`.
fn complaint(record: &[u8], prefix: &str) -> Option<String> {
    /// The level of a warning by the kernel. What programs write to the log has higher numbers.
    const WARNING: u32 = 4;
    let text = String::from_utf8_lossy(record);
    let (about, message) = text.lines().next()?.split_once(';')?;
    let level: u32 = about.split(',').next()?.parse().ok()?;
    (level <= WARNING && message.starts_with(prefix)).then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complaints_of_the_filesystem_are_kept() {
        let error = "3,1520,40479794473,-;erofs (device erofs): cannot find valid erofs superblock\n SUBSYSTEM=block\n";
        assert_eq!(
            complaint(error.as_bytes(), "erofs").unwrap(),
            "erofs (device erofs): cannot find valid erofs superblock"
        );
        for other in [
            "6,1521,40479795884,-;erofs (device erofs): mounted with root inode @ nid 44.\n",
            "3,1522,40479795884,-;EXT4-fs (loop0): error\n",
            "11,9,1,-;erofs (device erofs): written by a program\n",
            "no record",
            "",
        ] {
            assert_eq!(complaint(other.as_bytes(), "erofs"), None, "{other:?}");
        }
    }
}
