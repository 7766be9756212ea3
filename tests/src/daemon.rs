//! The git protocol: `git daemon`, one per connection.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::process::Stdio;

use crate::git;
use crate::listener::Listener;
use crate::repository::Repository;

/// A `git://` server on a port of the loopback, for every repository of the machine.
pub struct GitDaemon {
    listener: Listener,
}

impl GitDaemon {
    /// Starts it.
    pub fn start() -> Self {
        Self { listener: Listener::start(|stream| serve(stream).expect("run git daemon")) }
    }

    /// The URL of `repository` by its path.
    pub fn url(&self, repository: &Repository) -> String {
        format!("git://127.0.0.1:{}{}", self.listener.port(), repository.path().display())
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }

    /// Waits until everything that clients did before they hung up has been served.
    pub fn settle(&self) {
        self.listener.settle()
    }
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let (input, output) = (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream));
    let mut command = Command::new("git");
    command.args(["daemon", "--inetd", "--export-all"]).env_clear().envs(git::environment());
    command.stdin(input).stdout(output).stderr(Stdio::null()).status().map(drop)
}
