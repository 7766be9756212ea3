//! The programs of this workspace, built once and run as a person runs them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use nix::unistd::Uid;
use tempfile::TempDir;

use crate::git;
use crate::namespace;

/// A directory with builds to test instead of this workspace's, such as static ones.
pub const BINARIES: &str = "GITREPO_TEST_BINARIES";

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// The executable `name` of this workspace: from [`BINARIES`] if set, otherwise built on first use with the profile of
/// the running test.
pub fn executable(name: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(name.to_owned()).or_insert_with(|| build(name)).clone()
}

/// The executable that `cargo` built for these tests, or the one of the same name in [`BINARIES`].
pub fn chosen(built: &str) -> PathBuf {
    let built = PathBuf::from(built);
    std::env::var_os(BINARIES).map(|directory| Path::new(&directory).join(built.file_name().unwrap())).unwrap_or(built)
}

/// The directory of the static executables, built on first use with the profile of the running test.
pub fn static_executables() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_static).clone()
}

/// The running test's target directory, its profile's directory in there, and the profile's name.
fn place() -> (PathBuf, PathBuf, String) {
    // This test is <target directory>/<profile's directory>/deps/suites-<hash>.
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap();
    let profile = match directory.file_name().and_then(OsStr::to_str).unwrap() {
        "debug" => "dev",
        other => other,
    };
    (directory.parent().unwrap().to_owned(), directory.to_owned(), profile.to_owned())
}

fn build_static() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/static.sh");
    let (target_directory, _, profile) = place();
    let mut command = Command::new("sh");
    command.arg(script).arg(profile).env("CARGO_TARGET_DIR", target_directory);
    let printed = git::line(&mut command);
    Path::new(printed.lines().next().unwrap()).parent().unwrap().to_owned()
}

/// The package of an executable.
fn package(name: &str) -> &str {
    match name {
        "gitrepo-flex-install" => "gitrepo-flex",
        namesake => namesake,
    }
}

fn build(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os(BINARIES) {
        return Path::new(&directory).join(name);
    }
    let (target_directory, directory, profile) = place();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--package", package(name), "--profile", &profile, "--target-dir"]);
    git::output(cargo.arg(target_directory));
    directory.join(name)
}

/// A program with its own home, and of the caller's environment only `PATH`.
pub struct Program {
    executable: PathBuf,
    home: TempDir,
    environment: Vec<(OsString, OsString)>,
    user: Option<OtherUser>,
    may_unshare: bool,
}

/// A user who may not be able to reach the executable by its path, so it is opened for them.
struct OtherUser {
    uid: Uid,
    executable: File,
}

/// The outcome of a program.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// A running program. Killed when dropped.
pub struct Running(Option<Child>);

impl Program {
    /// `gitrepo-cli`.
    pub fn cli() -> Self {
        Self::new(executable("gitrepo-cli"))
    }

    /// Any executable.
    pub fn new(executable: PathBuf) -> Self {
        Self { executable, home: TempDir::new().unwrap(), environment: Vec::new(), user: None, may_unshare: true }
    }

    /// Runs it as another user, without any groups, and gives that user the home. Needs root.
    #[must_use]
    pub fn run_by(mut self, uid: Uid) -> Self {
        nix::unistd::chown(self.home.path(), Some(uid), None).unwrap();
        self.user = Some(OtherUser { uid, executable: File::open(&self.executable).unwrap() });
        self
    }

    /// Forbids it and its children to create namespaces, as container runtimes do.
    #[must_use]
    pub fn without_namespaces(self) -> Self {
        Self { may_unshare: false, ..self }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The file that it runs.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Its home, which is also its working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command, for further changes.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = match &self.user {
            None => Command::new(&self.executable),
            Some(user) => {
                let mut command = Command::new(format!("/proc/self/fd/{}", user.executable.as_raw_fd()));
                command.arg0(&self.executable).uid(user.uid.as_raw()).gid(user.uid.as_raw());
                command
            }
        };
        command.args(arguments).current_dir(self.home.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        self.spawn(arguments).wait()
    }

    /// Starts it.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        let mut command = self.command(arguments);
        let child = if self.may_unshare { command.spawn() } else { namespace::spawn_without(&mut command) };
        Running::new(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }
}

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.as_ref().map(Child::id).unwrap()
    }

    /// Sends a signal, unless it has exited.
    pub fn signal(&self, signal: Signal) {
        // The process has not been reaped, so the id is still its own. A dead process ignores the signal.
        nix::sys::signal::kill(Pid::from_raw(self.id().cast_signed()), signal).unwrap();
    }

    /// Kills it with SIGKILL and waits for its exit.
    pub fn kill(self) -> Outcome {
        self.signal(Signal::SIGKILL);
        self.wait()
    }

    /// Waits for its exit.
    pub fn wait(mut self) -> Outcome {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have exited by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl From<Output> for Outcome {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status, stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Outcome {
    /// The exit status; panics if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Fails unless it succeeded.
    pub fn assert_success(self) -> Self {
        assert!(self.status.success(), "failed: {}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Fails unless it exited with `code`.
    pub fn assert_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}
