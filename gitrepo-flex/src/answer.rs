//! The answer to a call: one JSON object.
//!
//! The kubelet reads standard output and standard error together (`CombinedOutput`) and passes them to a JSON decoder.
//! A second object, or one stray line from a library, breaks the answer. So this module keeps a private copy of the
//! real standard output and points both well-known descriptors at `/dev/null`.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use nix::sys::memfd::MFdFlags;
use nix::sys::memfd::memfd_create;
use nix::unistd::dup2_stderr;
use nix::unistd::dup2_stdin;
use nix::unistd::dup2_stdout;
use serde::Serialize;

/// Longest message, in bytes. The kubelet writes the message into an event, and into its log at each retry.
const MESSAGE_LIMIT: usize = 4096;

/// The answer to the kubelet. Keys without a value are left out: `"capabilities":null` crashes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Status {
    Success,
    Failure,
    #[serde(rename = "Not supported")]
    NotSupported,
}

/// All fields are written, because the kubelet takes most missing fields for true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    /// The kubelet calls attach before each mount.
    attach: bool,
    /// The kubelet relabels the volume.
    #[serde(rename = "selinuxRelabel")]
    selinux_relabel: bool,
    /// The kubelet walks the volume after each mount and gives every file to the pod's group.
    #[serde(rename = "fsGroup")]
    fs_group: bool,
    /// The kubelet calls statfs on the volume.
    supports_metrics: bool,
    /// The volume can grow.
    #[serde(rename = "requiresFSResize")]
    requires_fs_resize: bool,
}

impl Answer {
    /// Returns the answer to `init`.
    pub(crate) fn initialised() -> Self {
        Self { capabilities: Some(Capabilities::default()), ..Self::of(Status::Success) }
    }

    /// Returns the answer to a successful call.
    pub(crate) fn success() -> Self {
        Self::of(Status::Success)
    }

    /// Returns the answer to a failed call, which the kubelet will retry. `message` becomes the pod's event.
    pub(crate) fn failure(message: &str) -> Self {
        Self { message: Some(shortened(message)), ..Self::of(Status::Failure) }
    }

    /// Returns the answer to `--version`.
    pub(crate) fn version() -> Self {
        let version = concat!("gitrepo-flex ", env!("CARGO_PKG_VERSION"));
        Self { message: Some(version.to_owned()), ..Self::of(Status::Success) }
    }

    /// Returns the answer to a call that the driver does not support. The kubelet remembers it and stops making this
    /// call, so `mount` and `unmount` must never return it. The message is for people: the kubelet does not read it.
    pub(crate) fn not_supported() -> Self {
        let usage = "the kubelet calls this program with init, mount and unmount; gitrepo-flex-install installs it";
        Self { message: Some(usage.to_owned()), ..Self::of(Status::NotSupported) }
    }

    fn of(status: Status) -> Self {
        Self { status, message: None, capabilities: None }
    }

    fn line(&self) -> Vec<u8> {
        let object = serde_json::to_vec(self);
        // Serializing cannot fail, but if it did, the kubelet would still need an answer.
        let mut line = object.unwrap_or_else(|_| br#"{"status":"Failure"}"#.to_vec());
        line.push(b'\n');
        line
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let ends = message.char_indices().map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|end| *end <= MESSAGE_LIMIT).last().unwrap_or_default();
    format!("{}…", &message[..end])
}

/// The real standard output, for one answer.
#[derive(Debug)]
pub(crate) struct Channel(Mutex<Option<File>>);

impl Channel {
    /// Takes standard output away from all other code: from here on, descriptors 0, 1 and 2 are `/dev/null`, in this
    /// process and its children.
    pub(crate) fn take_over() -> Self {
        // The copy is close-on-exec. If one of the descriptors was closed at the start, Rust's runtime has opened
        // `/dev/null` on it.
        let stdout = io::stdout().as_fd().try_clone_to_owned().ok();
        if let Ok(nowhere) = nowhere() {
            // If a descriptor cannot be replaced, a library may write to it. Continue anyway: the answer matters more.
            let _each = [dup2_stdin(&nowhere), dup2_stdout(&nowhere), dup2_stderr(&nowhere)];
        }
        Self::over(stdout)
    }

    fn over(stdout: Option<OwnedFd>) -> Self {
        Self(Mutex::new(stdout.map(File::from)))
    }

    /// Sends the answer, unless another one was sent already, and closes the channel. Returns whether it was sent.
    /// Write errors (a closed pipe, a full disk) are ignored: there is nowhere to report them.
    pub(crate) fn send(&self, answer: &Answer) -> bool {
        let stdout = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut stdout) = stdout else { return false };
        if let Err(error) = stdout.write_all(&answer.line()) {
            tracing::warn!(%error, "cannot write the answer");
        }
        true
    }
}

/// Opens a sink for output: `/dev/null`, or memory if there is no `/dev`.
fn nowhere() -> io::Result<OwnedFd> {
    match OpenOptions::new().read(true).write(true).open("/dev/null") {
        Ok(null) => Ok(null.into()),
        Err(_) => Ok(memfd_create(c"nowhere", MFdFlags::MFD_CLOEXEC)?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(answer: &Answer) -> String {
        String::from_utf8(answer.line()).unwrap()
    }

    #[test]
    fn every_answer_is_an_object_without_null() {
        assert_eq!(text(&Answer::success()), "{\"status\":\"Success\"}\n");
        let not_supported = text(&Answer::not_supported());
        assert!(not_supported.starts_with(r#"{"status":"Not supported","message":"#), "{not_supported}");
        assert_eq!(
            text(&Answer::failure("\"quoted\"\n\u{1b}[31m ü")),
            r#"{"status":"Failure","message":"\"quoted\"\n\u001b[31m ü"}
"#
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = format!("x{}", "ü".repeat(MESSAGE_LIMIT));
        let Answer { message: Some(cut), .. } = Answer::failure(&message) else { panic!() };
        assert!(cut.len() <= MESSAGE_LIMIT + '…'.len_utf8() && cut.ends_with("ü…"), "{}", cut.len());
    }

    #[test]
    fn only_the_first_answer_is_sent() {
        let (mut ours, theirs) = io::pipe().unwrap();
        let channel = Channel::over(Some(theirs.into()));
        assert!(channel.send(&Answer::success()));
        assert!(!channel.send(&Answer::failure("late")));
        let mut sent = String::new();
        ours.read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "{\"status\":\"Success\"}\n");
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_not_an_error() {
        let (ours, theirs) = io::pipe().unwrap();
        drop(ours);
        assert!(Channel::over(Some(theirs.into())).send(&Answer::success()));
        assert!(!Channel::over(None).send(&Answer::success()));
    }
}
