//! The worker: its work for its parent, its confinement, and its end.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::policy::Config;
use gitrepo_core::policy::PinnedHost;
use gitrepo_core::remote::Errand;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::Job;
use gitrepo_tests::program::chosen;
use tempfile::TempDir;

mod ending;
mod escape;
mod large_files;
mod lies;
mod network;
mod session;
mod verifier;

/// The program whose worker is honest, unless a test asks it to misbehave.
fn program() -> PathBuf {
    chosen(env!("CARGO_BIN_EXE_gitrepo-test-worker"))
}

/// Creates a confined worker with this test's own locks.
fn confined(locks: &Path) -> Confined {
    Confined::new(&Config::for_person().worker).with_program(program()).with_uid_locks(locks.to_owned())
}

/// Directories of a session, and the locks of its worker.
struct Rooms {
    whole: TempDir,
}

impl Rooms {
    fn new() -> Self {
        let rooms = Self { whole: TempDir::new().unwrap() };
        std::fs::create_dir(rooms.staging()).unwrap();
        std::fs::create_dir(rooms.locks()).unwrap();
        rooms
    }

    fn path(&self) -> &Path {
        self.whole.path()
    }

    fn staging(&self) -> PathBuf {
        self.path().join("staging")
    }

    fn locks(&self) -> PathBuf {
        self.path().join("locks")
    }
}

/// Creates a job for a server on the loopback, without directories.
fn job(url: &str) -> Job {
    let url = RepositoryUrl::parse(url).unwrap();
    let host = url.host().zip(url.port()).map(|(name, port)| PinnedHost {
        name: name.to_owned(),
        port,
        addresses: vec![([127, 0, 0, 1], port).into()],
    });
    let mut job = Job::new(Errand::new(url), Watch::default());
    job.host = host;
    job
}

/// Changes the errand of a job.
fn with(mut job: Job, change: impl FnOnce(&mut Errand)) -> Job {
    change(&mut job.errand);
    job
}
