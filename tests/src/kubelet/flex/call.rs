//! One run of a driver, like `DriverCall.Run` (pkg/volume/flexvolume/driver-call.go).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sys::signal::Signal;

use super::answer::Answer;
use crate::program::Running;

/// Not the kubelet's. It makes the test of a driver that hangs fail.
const PATIENCE: Duration = Duration::from_secs(300);

/// A driver where the kubelet finds it: `<exec directory>/<vendor>~<driver>/<driver>`.
#[derive(Debug, Clone)]
pub struct Plugin {
    exec_directory: PathBuf,
    vendor: String,
    driver: String,
}

/// A running driver. Killed when dropped.
pub struct DriverCall {
    command: String,
    arguments: String,
    process: Running,
    pipe: File,
}

/// A driver that has exited.
#[derive(Debug)]
pub struct Finished {
    /// The called command: `mount`.
    pub command: String,
    /// All arguments.
    pub arguments: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output and standard error, interleaved.
    pub output: Vec<u8>,
}

impl Plugin {
    /// The driver `vendor/driver` in this directory of plugins.
    pub fn new(exec_directory: &Path, vendor: &str, driver: &str) -> Self {
        Self { exec_directory: exec_directory.to_owned(), vendor: vendor.to_owned(), driver: driver.to_owned() }
    }

    /// The directory of the executable. It contains nothing else but dot-files.
    pub fn directory(&self) -> PathBuf {
        self.exec_directory.join(self.escaped_name())
    }

    /// The executable.
    pub fn executable(&self) -> PathBuf {
        self.directory().join(&self.driver)
    }

    /// The name in the kubelet's paths: `vendor~driver`.
    pub fn escaped_name(&self) -> String {
        format!("{}~{}", self.vendor, self.driver)
    }

    /// The driver as the kubelet runs it, except for the outputs: in the root directory, without input, and with the
    /// environment that systemd gives a service, which has no `HOME`.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.executable());
        command.args(arguments).current_dir("/").stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        command
    }

    /// Starts it as the kubelet does: both outputs are one pipe.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> DriverCall {
        let mut command = self.command(arguments);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
        let child = loop {
            match command.spawn() {
                // A driver that the test just wrote may still be open in a process that another thread is starting.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                child => {
                    break child.unwrap_or_else(|error| panic!("cannot run {}: {error}", self.executable().display()));
                }
            }
        };
        // The command holds the write end, which would keep the pipe open.
        drop(command);
        DriverCall {
            command: words.first().cloned().unwrap_or_default(),
            arguments: words.join(" "),
            process: Running::new(child),
            pipe: ours.into(),
        }
    }

    /// Runs it to its end.
    pub fn call<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.spawn(arguments).wait()
    }

    /// Fails if anything would make the kubelet probe the driver again, or if there is an unknown dot-file.
    pub fn assert_untouched(&self) {
        let names = |directory: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(directory).unwrap();
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&self.exec_directory), [self.escaped_name()], "in the directory of plugins");
        let mut files = names(&self.directory());
        files.retain(|name| name != ".config.json");
        assert_eq!(files, [self.driver.as_str()], "in the driver's directory");
    }
}

impl DriverCall {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, unless it has exited.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until all holders have closed the pipe, and then for the driver's exit, as `CombinedOutput` does.
    pub fn wait(mut self) -> Finished {
        let output = self.read_to_end();
        Finished { command: self.command, arguments: self.arguments, status: self.process.wait().status, output }
    }

    fn read_to_end(&mut self) -> Vec<u8> {
        let begun = Instant::now();
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let said = String::from_utf8_lossy(&output);
            assert!(!left.is_zero(), "{} goes on, or a process it left has its output; it said {said:?}", self.command);
            let mut polled = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut polled, PollTimeout::try_from(left).unwrap()).unwrap();
            if !polled[0].any().unwrap_or_default() {
                continue;
            }
            match self.pipe.read(&mut buffer).unwrap() {
                0 => return output,
                count => output.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

impl Finished {
    /// The answer of a driver that keeps the contract exactly: exit status 0 and one JSON object in every case; `Not
    /// supported` never for a call that it implements.
    pub fn answer(&self) -> Answer {
        let said = String::from_utf8_lossy(&self.output);
        assert_eq!(
            self.status.into_raw(),
            0,
            "{} has to exit with 0 and ended with {}: {said}",
            self.command,
            self.status
        );
        let text = str::from_utf8(&self.output).unwrap_or_else(|error| panic!("{}: {error}: {said}", self.command));
        let line = text.trim_end_matches('\n');
        assert!(
            line.starts_with('{') && line.ends_with('}'),
            "{} says {text:?}, which is no JSON object",
            self.command
        );
        let answer = Answer::decode(&self.output).unwrap_or_else(|error| panic!("{}: {error}: {said}", self.command));
        assert!(["Success", "Failure", "Not supported"].contains(&&*answer.status), "{}: {said}", self.command);
        let has = ["init", "mount", "unmount"].contains(&&*self.command);
        assert!(!has || answer.status != "Not supported", "{} is never called again: {said}", self.command);
        assert!(answer.status != "Failure" || !answer.message.trim().is_empty(), "a failure without a word: {said}");
        answer
    }

    /// The message of a call that must fail.
    pub fn failure(&self) -> String {
        let answer = self.answer();
        assert_eq!(answer.status, "Failure", "{}: {answer:?}", self.command);
        answer.message
    }

    /// Fails unless the call succeeded.
    pub fn assert_success(&self) {
        let answer = self.answer();
        assert_eq!(answer.status, "Success", "{}: {answer:?}", self.command);
    }
}
