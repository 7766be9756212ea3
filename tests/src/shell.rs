//! `gitrepo-cli mount` at a shell, with a store on a new private file system.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_core::error::chain;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;

use crate::loopfs::Image;
use crate::loopfs::LoopFs;
use crate::program::Outcome;
use crate::program::Program;
use crate::program::Running;
use crate::require;
use crate::snapshot_format;
use crate::snapshot_format::Format;
use crate::tmpfs::Tmpfs;
use crate::volumes;

/// A root shell with a store and a directory for targets. Its mounts are visible to this thread and those it starts.
pub struct Shell {
    program: Program,
    configuration: PathBuf,
    format: Option<Format>,
    home: PathBuf,
    file_system: FileSystem,
}

enum FileSystem {
    Disk(LoopFs),
    Memory { _mounted: Tmpfs },
}

impl Shell {
    /// With a file system of `bytes`, without reserved blocks; `None` without root.
    pub fn new(bytes: u64) -> Option<Self> {
        let file_system = LoopFs::if_possible(bytes)?;
        Self::on(&file_system.path().canonicalize().unwrap(), None, FileSystem::Disk(file_system))
    }

    /// The same with snapshots in this format; `None` also on a machine that cannot mount them.
    pub fn new_with(bytes: u64, format: Format) -> Option<Self> {
        let file_system = LoopFs::if_possible(bytes)?;
        Self::on(&file_system.path().canonicalize().unwrap(), Some(format), FileSystem::Disk(file_system))
    }

    /// With images as snapshots on a tmpfs, where they are mounted through loop devices; `None` without root, or on a
    /// machine that cannot mount them.
    pub fn with_loop_devices() -> Option<Self> {
        let file_system = Tmpfs::if_possible()?;
        Self::on(
            &file_system.path().canonicalize().unwrap(),
            Some(Format::Image),
            FileSystem::Memory { _mounted: file_system },
        )
    }

    fn on(home: &Path, format: Option<Format>, file_system: FileSystem) -> Option<Self> {
        if format == Some(Format::Image) {
            let supported = LinuxMounter::new(home.join("mounting")).check_images(home);
            let what = supported.as_ref().err().map(|error| chain(error)).unwrap_or_default();
            if !require::feature(supported.is_ok(), &format!("images of 512-byte blocks: {what}")) {
                return None;
            }
        }
        std::fs::create_dir(home.join("pods")).unwrap();
        let program = Program::cli();
        let configuration = program.home().join("config.json");
        let shell = Self { configuration, format, program, home: home.to_owned(), file_system };
        shell.configure(r#"{"cache": {"reserveBytes": "0"}}"#);
        Some(shell)
    }

    /// From now on runs another executable.
    #[must_use]
    pub fn with_executable(mut self, executable: PathBuf) -> Self {
        (self.program, self.configuration) = self.program_for(executable);
        self
    }

    /// The same shell with what its disk had at one moment, for a thread with [private mounts](crate::namespace) of its own.
    #[must_use]
    pub fn with_disk(&self, image: &Image) -> Self {
        let (program, configuration) = self.program_for(self.program.executable().to_owned());
        let file_system = FileSystem::Disk(LoopFs::restore(image, &self.home));
        Self { program, configuration, format: self.format, home: self.home.clone(), file_system }
    }

    /// Returns a program and the path of its configuration, which is the same.
    fn program_for(&self, executable: PathBuf) -> (Program, PathBuf) {
        let program = Program::new(executable);
        let configuration = program.home().join("config.json");
        std::fs::copy(&self.configuration, &configuration).unwrap();
        (program, configuration)
    }

    /// Gives the program another configuration, with the shell's format, or else that [of this run][snapshot_format].
    pub fn configure(&self, json: &str) {
        let mut configuration = serde_json::from_str(json).unwrap();
        if let Some(format) = self.format {
            snapshot_format::set(&mut configuration, format);
        }
        snapshot_format::add_to(&mut configuration);
        std::fs::write(&self.configuration, configuration.to_string()).unwrap();
    }

    /// The root of the file system.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The disk of its file system, unless that is in memory.
    pub fn disk(&self) -> &LoopFs {
        match &self.file_system {
            FileSystem::Disk(disk) => disk,
            FileSystem::Memory { .. } => panic!("the file system is in memory"),
        }
    }

    /// Replaces what is on the disk by what it once had.
    pub fn revert(&mut self, image: &Image) {
        match &mut self.file_system {
            FileSystem::Disk(disk) => disk.revert(image),
            FileSystem::Memory { .. } => panic!("the file system is in memory"),
        }
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// A target below an existing directory.
    pub fn target(&self, pod: &str) -> PathBuf {
        self.home.join("pods").join(pod)
    }

    /// `gitrepo-cli mount <url> <target> <more>`.
    pub fn mount(&self, url: &str, target: &Path, more: &[&str]) -> Outcome {
        self.spawn_mount(url, target, more).wait()
    }

    /// The same without waiting.
    pub fn spawn_mount(&self, url: &str, target: &Path, more: &[&str]) -> Running {
        let words = ["mount".as_ref(), url.as_ref(), target.as_os_str()];
        self.spawn(words.into_iter().chain(more.iter().map(OsStr::new)))
    }

    /// `gitrepo-cli unmount <target>`.
    pub fn unmount(&self, target: &Path) -> Outcome {
        self.spawn_unmount(target).wait()
    }

    /// The same without waiting.
    pub fn spawn_unmount(&self, target: &Path) -> Running {
        self.spawn(["unmount".as_ref(), target.as_os_str()])
    }

    /// `gitrepo-cli <words>` for the store.
    pub fn run(&self, words: &[&str]) -> Outcome {
        self.spawn(words.iter().map(OsStr::new)).wait()
    }

    /// The command for the same, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        self.program.command(self.arguments(words.iter().map(OsStr::new)))
    }

    /// A script in which `gitrepo-cli` is this program and has this store, as if a person had configured the machine.
    pub fn script(&self, text: &str) -> Command {
        let directory = self.program.executable().parent().unwrap();
        let mut search = vec![directory.to_owned()];
        search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut script = Command::new("sh");
        script.args(["-euc", text]).env("PATH", std::env::join_paths(search).unwrap());
        script.env("GITREPO_STORE", self.store()).env("GITREPO_CONFIG", &self.configuration);
        script
    }

    fn spawn<'a>(&self, words: impl IntoIterator<Item = &'a OsStr>) -> Running {
        self.program.spawn(self.arguments(words))
    }

    fn arguments<'a>(&self, words: impl IntoIterator<Item = &'a OsStr>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        arguments.extend(["--store".into(), self.store().into(), "--config".into(), self.configuration.clone().into()]);
        arguments
    }

    /// Mounts on `target`.
    pub fn mounts_on(&self, target: &Path) -> usize {
        volumes::mounts_on(target)
    }

    /// What is left of published volumes, work in flight or crashes.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mounts = volumes::mounts_below(&self.home).into_iter();
        mounts.chain(volumes::leftovers(&self.store(), &self.home.join("pods"))).collect()
    }
}
