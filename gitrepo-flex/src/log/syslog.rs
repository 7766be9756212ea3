//! The host's syslog, through its socket.

use std::os::unix::net::UnixDatagram;

use tracing::Level;

/// The socket of every syslog, journald included.
const SOCKET: &str = "/dev/log";

/// Longest message, in bytes: the size that a syslog should accept (RFC 5426), plus a path or two.
const LIMIT: usize = 4096;

/// `daemon` of syslog(3).
const FACILITY: u8 = 3;

/// A connection to syslog.
pub(super) struct Syslog(UnixDatagram);

impl Syslog {
    /// Connects to syslog. Returns `None` if none is running.
    pub(super) fn open() -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        // A syslog that hangs must not delay a mount.
        socket.set_nonblocking(true).ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Self(socket))
    }

    /// Sends a line. Drops it if syslog is busy.
    pub(super) fn send(&self, level: Level, line: &[u8]) {
        drop(self.0.send(&message(level, std::process::id(), line)));
    }
}

/// Formats a message as syslog(3) does, without the time, which the receiver adds.
fn message(level: Level, process: u32, line: &[u8]) -> Vec<u8> {
    let line = line.trim_ascii_end();
    let mut message = format!("<{}>gitrepo-flex[{process}]: ", FACILITY * 8 + severity(level)).into_bytes();
    message.extend_from_slice(&line[..line.len().min(LIMIT)]);
    message
}

fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length_with_its_priority() {
        assert_eq!(message(Level::ERROR, 7, b"failed\n"), b"<27>gitrepo-flex[7]: failed");
        assert_eq!(message(Level::INFO, 7, b"done"), b"<30>gitrepo-flex[7]: done");
        assert!(message(Level::WARN, 7, &[b'x'; 1 << 20]).len() < LIMIT + 64);
    }
}
