//! The protocol between the parent and the worker.
//!
//! One JSON object per line over a socket. A session begins with a [`Plan`], answered by [`Reply::Started`] once the
//! child's namespaces are set up. Then comes one [`Errand`](crate::remote::Errand), answered by [`Reply::Ready`], and
//! any number of [`Request`]s. Each is answered by one reply, after any number of [`Reply::Progress`] and
//! [`Reply::AcceptedHostKey`]. The parent ends the session.
//!
//! The parent trusts nothing: lines are bounded, texts are scrubbed before they enter an error, and anything unexpected
//! ends the session.

use std::ffi::OsString;
use std::io;

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::objects::SentEndpoint;
use super::objects::SentFetched;
use super::objects::SentRequest;
use crate::error::Cause;
use crate::lfs::Missing;
use crate::lfs::Object;
use crate::lfs::ObjectId;
use crate::progress::Step;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::signature::SignatureError;
use crate::signature::SignatureRequest;
use crate::signature::Signer;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::Revision;

/// How to confine the child. Contains no secret.
///
/// Paths are absolute, and without symlinks unless noted; they need not be UTF-8.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// What the child is for.
    pub(super) role: Role,
    /// The user to change to, if the child may choose.
    pub(super) uid: Option<u32>,
    /// Whether only workers have this uid, so that their processes can be limited.
    pub(super) uid_is_ours: bool,
    /// Limit of private memory in bytes.
    pub(super) memory: u64,
    /// Maximum size of a file in bytes.
    pub(super) file_size: u64,
    /// The directory to write to. With it comes a receiver's pipe for objects and its pipe for answers, or a verifier's
    /// other ends of both.
    pub(super) staging: Option<OsString>,
    /// What the verifier keeps, for a receiver to read.
    pub(super) kept: Option<OsString>,
    /// The repository to read.
    pub(super) base: Option<OsString>,
    /// The repository of a `file` URL.
    pub(super) source: Option<FileRepository>,
    /// Certificate authorities.
    pub(super) ca_file: Option<OsString>,
    /// The only host that may be connected to.
    pub(super) host: Option<Host>,
}

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Role {
    /// It speaks to the remote, reads its pack, and hands the objects over.
    Receiver,
    /// It keeps and checks the objects, and lists the tree. It has neither a network nor a secret.
    Verifier,
}

/// The repository of a `file` URL.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileRepository {
    /// Its path on the host.
    pub(super) path: OsString,
    /// Its path in the URL, which may contain symlinks.
    pub(super) shown_at: OsString,
}

/// Name and port of a host, as in the URL or the proxy's address.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// A step of confinement that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SetupError {
    /// What was tried.
    pub(super) step: String,
    /// The system's error.
    pub(super) errno: i32,
    /// The same as text, for errors without an errno.
    pub(super) message: Cause,
}

impl SetupError {
    /// Adds the failed step to a system error. For `map_err`.
    pub(super) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            Self { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(0), message: Cause::new(error) }
        }
    }

    /// Returns the original error of the child.
    pub(super) fn into_io(self) -> io::Error {
        if self.errno == 0 { io::Error::other(self.message) } else { io::Error::from_raw_os_error(self.errno) }
    }
}

/// A request to the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// Resolve this revision, which is not a commit's id.
    Resolve(Revision),
    /// Have the remote give out this commit.
    Prove(CommitId),
    /// Have the remote give out this annotated tag.
    Tag(CommitId),
    /// Fetch its history, and hand it over.
    Fetch(FetchRequest),
    /// Keep what the receiver hands over, to the end of its fetch.
    Take,
    /// Say which objects of Git LFS its tree lacks.
    Missing(TreeRequest),
    /// Have the remote say which server has objects of Git LFS.
    ObjectsEndpoint,
    /// Fetch objects of Git LFS, and hand them over.
    FetchObjects(SentRequest),
    /// Keep these objects of those that the receiver hands over.
    TakeObjects(Vec<Object>),
    /// Check what was taken for this fetch.
    Check(FetchRequest),
    /// Check the signature of this commit.
    CheckSignature(Box<SignatureRequest>),
    /// Write its tree.
    WriteTree(TreeRequest),
    /// Make a compact copy of [`Plan::base`].
    Compact,
}

/// A reply of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reply {
    /// The namespaces are set up, and the worker is about to confine itself. Sent with the listening socket for
    /// [`Plan::host`].
    Started {
        /// The worker's process id, in the parent's PID namespace.
        pid: i32,
        /// Whether it has namespaces of its own, and sees only the files listed [there](super::namespace).
        namespaces: bool,
    },
    /// A step failed, so the child will do nothing.
    NotStarted(SetupError),
    /// The worker is confined, and waits for requests.
    Ready {
        /// How much of the Landlock rules the kernel enforces.
        landlock: String,
    },
    /// The request has reached this step.
    Progress(Step),
    /// The key of an unknown host was trusted.
    AcceptedHostKey {
        /// The key's line for a `known_hosts` file.
        line: String,
    },
    /// Answers [`Request::Resolve`].
    Resolved(Resolved),
    /// Answers [`Request::Prove`] with the content of the commit object.
    Proven(Vec<u8>),
    /// Answers [`Request::Tag`] with the content of the tag.
    Tag(Vec<u8>),
    /// Answers [`Request::Fetch`].
    Fetched(FetchReport),
    /// Answers [`Request::Take`].
    Taken,
    /// Answers [`Request::TakeObjects`] with those that are here now.
    TakenObjects(Vec<ObjectId>),
    /// Answers [`Request::Missing`].
    Missing(Missing),
    /// Answers [`Request::ObjectsEndpoint`].
    ObjectsEndpoint(SentEndpoint),
    /// Answers [`Request::FetchObjects`].
    ObjectsFetched(SentFetched),
    /// Answers [`Request::Check`].
    Checked {
        /// Whether no more than a directory of the commit is there.
        narrow: bool,
    },
    /// Answers [`Request::CheckSignature`].
    Signed(Signer),
    /// Answers [`Request::WriteTree`].
    Written(TreeSummary),
    /// Answers [`Request::Compact`]: the newest commit, if any is there whole.
    Compacted(Option<CommitId>),
    /// Answers any request.
    Failed(RequestError),
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RequestError {
    /// Talking to the remote failed.
    Remote(RemoteError),
    /// Writing the tree failed.
    Snapshot(SnapshotError),
    /// A bug of ours, such as a panic.
    Internal(Cause),
    /// A commit lacks the required signature.
    Signature(SignatureError),
}

/// Writes one message as a line, wiped when dropped because it may contain secrets.
pub(super) fn line(message: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    /// Measures the length, so that the buffer never grows: growing would leave a copy behind.
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

/// Parses a reply, which may come from a worker hijacked by a remote.
///
/// Control characters become spaces and texts are truncated, everywhere. `places` maps the worker's paths to those of
/// the host, so that errors contain paths that exist.
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
    fn texts_of_a_reply_are_scrubbed_and_truncated_and_name_host_paths() {
        let line = br#"{"failed":{"internal":"\u001b[31mno \r\n /inside/x"}}"#;
        let places = [("/inside".to_owned(), "/store/staging/1".to_owned())];
        let Ok(Reply::Failed(RequestError::Internal(cause))) = reply(line, &places) else { panic!("not a failure") };
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
