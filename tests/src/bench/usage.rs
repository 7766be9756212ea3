//! What commands take: time, processor, memory.
//!
//! A benchmark runs them under a process of its own, itself in the mode [`MEASURE`], so that what the kernel adds up for
//! that process's children is the commands'.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::sys::resource::Usage as Resources;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;
use nix::sys::time::TimeValLike;
use serde::Deserialize;
use serde::Serialize;

use crate::git;
use crate::process;
use crate::process::Memory;

/// The first argument of a benchmark that is to measure what it reads from its standard input.
pub const MEASURE: &str = "measure";
/// The first argument of a benchmark that is to read all files of a directory.
pub const READ: &str = "read";

/// Between two looks at the memory of processes.
const PACE: Duration = Duration::from_millis(2);

/// Commands that start together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Commands {
    /// Each with its program and its arguments.
    pub commands: Vec<Vec<String>>,
    /// Whether to watch the memory of all processes together, which slows them down.
    pub watched: bool,
}

/// What the commands took until the last one returned.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds until the last command returned.
    pub wall: f64,
    /// Processor seconds of all processes.
    pub cpu: f64,
    /// The most memory of one process, in bytes, with the pages of files that it has mapped.
    pub largest: u64,
    /// The most memory of all processes together, in bytes, without files; if it was watched.
    pub together: Option<u64>,
}

impl Commands {
    /// Runs them in the environment of [`git::environment`], with further `variables`.
    ///
    /// # Errors
    ///
    /// What the failed commands said.
    pub fn measure(&self, variables: &BTreeMap<String, String>) -> Result<Usage, String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(MEASURE).env_clear().envs(git::environment()).envs(variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(self).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }

    fn run(&self) -> Result<Usage, String> {
        let begun = Instant::now();
        let spawn = |words: &Vec<String>| Command::new(&words[0]).args(&words[1..]).stdout(Stdio::null()).spawn();
        let children = self.commands.iter().map(spawn).collect::<Result<Vec<_>, _>>();
        let mut children = children.map_err(|error| format!("cannot run {:?}: {error}", self.commands[0][0]))?;
        let together = self.watched.then(|| watch(&mut children));
        let failed =
            children.iter_mut().filter_map(|child| child.wait().ok()).filter(|status| !status.success()).count();
        let wall = begun.elapsed().as_secs_f64();
        if failed > 0 {
            return Err(format!("{failed} of {} commands failed, such as {:?}", children.len(), self.commands[0]));
        }
        let resources = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let largest = u64::try_from(resources.max_rss()).unwrap() << 10;
        Ok(Usage { wall, cpu: processor(&resources), largest, together })
    }
}

/// A benchmark's modes that measure for it. Returns whether the arguments asked for one.
pub fn serve(arguments: &[String]) -> bool {
    match arguments {
        [mode] if mode == MEASURE => {
            let commands: Commands = serde_json::from_reader(std::io::stdin()).unwrap();
            match commands.run() {
                Ok(usage) => serde_json::to_writer(std::io::stdout(), &usage).unwrap(),
                Err(error) => panic!("{error}"),
            }
            true
        }
        [mode, directory] if mode == READ => {
            assert!(read(Path::new(directory)) > 0, "{directory} has no files");
            true
        }
        _ => false,
    }
}

/// Processor seconds of a program and its threads.
pub fn processor(resources: &Resources) -> f64 {
    (resources.user_time() + resources.system_time()).num_microseconds() as f64 / 1e6
}

/// The files below `directory`, of which it reads all; links and what git keeps do not count.
pub fn read(directory: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() {
            files += read(&entry.path());
        } else if kind.is_file() {
            fs::read(entry.path()).unwrap();
            files += 1;
        }
    }
    files
}

fn watch(children: &mut [Child]) -> u64 {
    let me = std::process::id();
    let mut most = 0;
    while children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
        let others = process::with_descendants(me).into_iter().filter(|pid| *pid != me);
        most = most.max(others.filter_map(Memory::of).map(|memory| memory.anonymous << 10).sum());
        std::thread::sleep(PACE);
    }
    most
}
