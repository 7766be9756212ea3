//! A server of the machine, run in the foreground with a directory of its own. It ends when this is dropped, and along with
//! a test that is killed.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use crate::git;
use crate::require;

/// A directory for a server's files: a socket, a configuration, a log.
pub(crate) struct Place(TempDir);

/// A running server.
pub(crate) struct Server(Child);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::with_prefix("gitrepo-server-").unwrap())
    }

    /// The path of a file, as text for a configuration.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// What servers have written to standard error and to the file `log`.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts a program, which has to be installed.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Server {
        Server(self.command(program, arguments).stdout(Stdio::null()).spawn().unwrap())
    }

    /// The same, and waits for its first line of output.
    pub(crate) fn start_and_read(&self, program: &str, arguments: &[&str]) -> (Server, String) {
        let mut child = self.command(program, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Server(child), line)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program =
            if Path::new(program).is_absolute() { Some(PathBuf::from(program)) } else { require::find(program) };
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program.expect("it is installed")).args(arguments);
        command.env_clear().envs(git::environment()).stdin(Stdio::null()).stderr(log);
        command
    }
}

impl Server {
    /// Waits until `is_ready`; fails if the server ends before.
    pub(crate) fn wait(&mut self, place: &Place, is_ready: impl Fn() -> bool) {
        while !is_ready() {
            assert!(self.0.try_wait().unwrap().is_none(), "the server ends: {}", place.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
