//! A user namespace, to map the ids of mounts as container runtimes do for pods with `hostUsers: false`.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::sys;

/// A user namespace, which a process keeps.
pub struct UserNamespace {
    process: Child,
    namespace: File,
}

impl UserNamespace {
    /// Makes one that maps the ids from 0 on to those from `first` on.
    pub fn new(first: u32) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "sh", "-c", "echo ready; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = unshare.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let place = format!("/proc/{}", process.id());
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("{place}/{map}"), format!("0 {first} 65536\n")).unwrap();
        }
        let namespace = File::open(format!("{place}/ns/user")).unwrap();
        Self { process, namespace }
    }

    /// Attaches a copy of the mount on `source` to `target`, with its ids mapped.
    pub fn attach_mapped(&self, source: &Path, target: &Path) -> io::Result<()> {
        sys::attach_mapped(source, &self.namespace, target)
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        // Its standard input ends.
        drop(self.process.stdin.take());
        let _status = self.process.wait();
    }
}
