//! What the parent and the worker say to each other.
//!
//! One JSON object a line over a socket. A session begins with a [`Plan`], answered by [`Reply::Started`] once the child's
//! namespaces stand; then come one [`Errand`](crate::remote::Errand), answered by [`Reply::Ready`], and any number of [`Request`]s, each answered
//! by one reply after any number of [`Reply::Progress`] and [`Reply::AcceptedHostKey`]. It ends when the parent ends it.
//!
//! The parent believes nothing: a line is bounded, its texts are scrubbed before they become part of an error, and
//! anything unexpected ends the session.

use std::ffi::OsString;
use std::io;

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::Cause;
use crate::progress::Step;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::Revision;

/// How to confine the child. Holds no secret.
///
/// Paths are absolute, and without symlinks unless said otherwise; they need not be UTF-8.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// To become this user, if the child may choose.
    pub(super) uid: Option<u32>,
    /// No other process has this uid, so the number of its processes can be bounded.
    pub(super) uid_is_ours: bool,
    /// Bytes of private memory.
    pub(super) memory: u64,
    /// Bytes of the largest file.
    pub(super) file_size: u64,
    /// Directory to be written.
    pub(super) staging: Option<OsString>,
    /// Repository to be read.
    pub(super) base: Option<OsString>,
    /// Repository that a `file` URL names.
    pub(super) source: Option<Source>,
    /// Certificate authorities.
    pub(super) ca_file: Option<OsString>,
    /// The only host to be connected to.
    pub(super) host: Option<Host>,
}

/// The repository of a `file` URL.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Source {
    /// On the host.
    pub(super) path: OsString,
    /// As the URL has it, which may lead over symlinks.
    pub(super) shown_at: OsString,
}

/// Name and port of a host, as the URL (or the proxy's) has them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// A step of confining that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SetupError {
    /// What was tried.
    pub(super) step: String,
    /// What the system said.
    pub(super) errno: i32,
    /// The same as text, for errors without a number.
    pub(super) message: Cause,
}

impl SetupError {
    /// For `map_err`.
    pub(super) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            Self { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(0), message: Cause::new(error) }
        }
    }

    /// The error as it was in the child.
    pub(super) fn into_io(self) -> io::Error {
        if self.errno == 0 { io::Error::other(self.message) } else { io::Error::from_raw_os_error(self.errno) }
    }
}

/// What is asked of the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// Where does this revision stand?
    Resolve(Revision),
    /// Bring its history.
    Fetch(FetchRequest),
    /// Lay down its tree.
    WriteTree(TreeRequest),
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reply {
    /// The namespaces stand, and the worker is about to confine itself. The listening socket for [`Plan::host`] comes
    /// with it.
    Started {
        /// The worker's process id, in the parent's PID namespace.
        pid: i32,
        /// It has namespaces of its own, and sees only what is laid out [there](super::namespace).
        namespaces: bool,
    },
    /// A step failed, so it will do nothing.
    NotStarted(SetupError),
    /// Confined, and waiting for requests.
    Ready {
        /// How much of the Landlock rules the kernel enforces.
        landlock: String,
    },
    /// The request has come this far.
    Progress(Step),
    /// A new host was believed.
    AcceptedHostKey {
        /// For a `known_hosts` file.
        line: String,
    },
    /// Answers [`Request::Resolve`].
    Resolved(Resolved),
    /// Answers [`Request::Fetch`].
    Fetched(FetchReport),
    /// Answers [`Request::WriteTree`].
    Written(TreeSummary),
    /// Answers any request.
    Failed(Failure),
}

/// Why a request was not fulfilled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Failure {
    /// Speaking to the remote failed.
    Remote(RemoteError),
    /// Laying down the tree failed.
    Snapshot(SnapshotError),
    /// A fault of ours, such as a panic.
    Internal(Cause),
}

/// One message as a line, wiped when dropped because it may hold secrets.
pub(super) fn line(message: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    /// Measures, so that the buffer never grows: growing would leave a copy behind.
    struct Length(usize);
    impl io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(1);
    serde_json::to_writer(&mut length, message)?;
    let mut line = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a reply that may come from a worker that a remote has taken over.
///
/// Control characters become spaces and texts are cut, wherever they stand. `places` maps what the worker sees to what it
/// is on the host, so that an error names a path that exists.
pub(super) fn reply(line: &[u8], places: &[(String, String)]) -> Result<Reply, serde_json::Error> {
    let mut value = serde_json::from_slice(line)?;
    scrub(&mut value, places);
    serde_json::from_value(value)
}

/// Longest text kept, in bytes. A `known_hosts` line of a 16,384-bit RSA key has about 2,800.
const TEXT_LIMIT: usize = 4096;

fn scrub(value: &mut serde_json::Value, places: &[(String, String)]) {
    match value {
        serde_json::Value::String(text) => {
            for (inside, outside) in places {
                if text.contains(inside) {
                    *text = text.replace(inside, outside);
                }
            }
            let end = (0..=TEXT_LIMIT.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
            text.truncate(end);
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, " ");
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, places)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| scrub(field, places)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_without_growing_its_buffer() {
        let line = line(&"-----BEGIN\nKEY\"".repeat(1000)).unwrap();
        assert_eq!(line.len(), line.capacity());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn texts_of_a_reply_are_scrubbed_bounded_and_placed() {
        let line = br#"{"failed":{"internal":"\u001b[31mno \r\n /inside/x"}}"#;
        let places = [("/inside".to_owned(), "/store/staging/1".to_owned())];
        let Ok(Reply::Failed(Failure::Internal(cause))) = reply(line, &places) else { panic!("not a failure") };
        assert_eq!(cause.to_string(), " [31mno    /store/staging/1/x");

        let long = format!(r#"{{"acceptedHostKey":{{"line":"{}"}}}}"#, "ä".repeat(5000));
        let Ok(Reply::AcceptedHostKey { line }) = reply(long.as_bytes(), &[]) else { panic!("not a line") };
        assert_eq!(line.len(), TEXT_LIMIT);
    }

    #[test]
    fn an_unknown_reply_is_refused() {
        assert!(reply(br#"{"granted":{}}"#, &[]).is_err());
        assert!(reply(b"", &[]).is_err());
    }
}
