//! The changes of a commit, in order.

use std::io::Write;

use crate::git;

/// The changes of a commit. Paths are bytes, relative, with slashes.
#[derive(Debug, Clone, Default)]
pub struct Files {
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Clear,
    Remove { path: Vec<u8> },
    Put { mode: &'static str, path: Vec<u8>, content: Vec<u8> },
    Submodule { path: Vec<u8>, commit: String },
}

impl Files {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.put("100644", path.as_ref(), content.as_ref())
    }

    /// A regular file with the executable bit.
    #[must_use]
    pub fn executable(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.put("100755", path.as_ref(), content.as_ref())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.put("120000", path.as_ref(), target.as_ref())
    }

    /// A submodule at `commit`. Write `.gitmodules` yourself if it needs a URL.
    #[must_use]
    pub fn submodule(self, path: impl AsRef<[u8]>, commit: &str) -> Self {
        self.with(Change::Submodule { path: path.as_ref().to_vec(), commit: commit.to_owned() })
    }

    /// Removes a file or a whole directory.
    #[must_use]
    pub fn remove(self, path: impl AsRef<[u8]>) -> Self {
        self.with(Change::Remove { path: path.as_ref().to_vec() })
    }

    /// Removes everything from the parent and everything added before.
    #[must_use]
    pub fn clear(self) -> Self {
        self.with(Change::Clear)
    }

    fn put(self, mode: &'static str, path: &[u8], content: &[u8]) -> Self {
        self.with(Change::Put { mode, path: path.to_vec(), content: content.to_vec() })
    }

    fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// A stream for `git fast-import` that makes one commit and prints its id.
    pub(super) fn import_stream(&self, reference: &str, parent: Option<&str>, number: u64) -> Vec<u8> {
        let mut stream = Vec::new();
        let time = git::EPOCH + 60 * number;
        writeln!(stream, "commit {reference}\nmark :1").unwrap();
        writeln!(stream, "author Author <author@example.com> {time} +0000").unwrap();
        writeln!(stream, "committer Committer <committer@example.com> {time} +0000").unwrap();
        data(&mut stream, format!("Commit {number}\n").as_bytes());
        if let Some(parent) = parent {
            writeln!(stream, "from {parent}").unwrap();
        }
        for change in &self.changes {
            match change {
                Change::Clear => writeln!(stream, "deleteall").unwrap(),
                Change::Remove { path } => writeln!(stream, "D {}", quoted(path)).unwrap(),
                Change::Submodule { path, commit } => writeln!(stream, "M 160000 {commit} {}", quoted(path)).unwrap(),
                Change::Put { mode, path, content } => {
                    writeln!(stream, "M {mode} inline {}", quoted(path)).unwrap();
                    data(&mut stream, content);
                }
            }
        }
        writeln!(stream, "\nget-mark :1\ndone").unwrap();
        stream
    }
}

fn data(stream: &mut Vec<u8>, content: &[u8]) {
    writeln!(stream, "data {}", content.len()).unwrap();
    stream.extend_from_slice(content);
    stream.push(b'\n');
}

/// A path in git's C-style quotes, which allow every byte.
fn quoted(path: &[u8]) -> String {
    let mut text = String::from('"');
    for &byte in path {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}
