//! `git http-backend`, through CGI.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::thread::JoinHandle;

use super::message::Request;
use crate::git;

/// A running `git http-backend` whose status and headers have been read. Killed when dropped early.
pub(super) struct Backend {
    child: Child,
    output: BufReader<ChildStdout>,
    feeder: Option<JoinHandle<io::Result<()>>>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

impl Backend {
    /// Answers `request` for the repository at `root` + `path`, where `path` ends as the request's path does.
    pub(super) fn start(root: &Path, path: &str, request: &Request) -> io::Result<Self> {
        let mut command = Command::new("git");
        command.arg("http-backend").env_clear().envs(git::environment());
        command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("REQUEST_METHOD", &request.method).env("PATH_INFO", path).env("QUERY_STRING", &request.query);
        command.env("REMOTE_ADDR", "127.0.0.1").env("CONTENT_LENGTH", request.body.len().to_string());
        let passed = [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ];
        for (header, variable) in passed {
            if let Some(value) = request.header(header) {
                command.env(variable, value);
            }
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let body = request.body.clone();
        let feeder = std::thread::spawn(move || stdin.write_all(&body));
        let output = BufReader::new(stdout);
        let mut backend = Self { child, output, feeder: Some(feeder), status: 200, headers: Vec::new() };
        backend.read_head()?;
        Ok(backend)
    }

    fn read_head(&mut self) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(()) };
            if name == "Status" {
                self.status = value.get(..3).and_then(|code| code.parse().ok()).unwrap_or(500);
            } else {
                self.headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

impl Read for Backend {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Errors only mean that the backend has already ended, or was left unread on purpose.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(self.feeder.take().map(JoinHandle::join));
    }
}
