//! The machine that a benchmark runs on, as far as it matters to others.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::git;

/// What figures depend on. Names neither the machine nor its directories.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// Processors that the system has.
    pub cores: usize,
    /// In bytes.
    pub memory: u64,
    /// The kernel's version.
    pub kernel: String,
    /// What the contenders write to.
    pub filesystem: String,
    /// git's version.
    pub git: String,
    /// The commit of this project.
    pub project: String,
    /// Day of the run, as in 2026-01-31.
    pub date: String,
}

impl Machine {
    /// This machine, with the project whose sources are in `workspace`.
    pub fn this(filesystem: &str, workspace: &Path) -> Self {
        let described = git::command(workspace).args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
        let described = described.ok().filter(|output| output.status.success());
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field("/proc/meminfo", "MemTotal").map_or(0, |value| kibibytes(&value) << 10),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|release| version(&release))
                .unwrap_or_default(),
            filesystem: filesystem.to_owned(),
            git: git::line(Command::new("git").arg("--version")).trim_start_matches("git version ").to_owned(),
            project: described.map_or_else(|| "unknown".to_owned(), |output| git::text(output.stdout)),
            date: git::line(Command::new("date").args(["-u", "+%Y-%m-%d"])),
        }
    }

    /// A sentence.
    pub fn describe(&self) -> String {
        format!(
            "{}, {} cores, {:.0} GiB of memory, Linux {}, {}, git {}; gitrepo {}, {}.",
            self.processor,
            self.cores,
            self.memory as f64 / f64::from(1 << 30),
            self.kernel,
            self.filesystem,
            self.git,
            self.project,
            self.date
        )
    }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().strip_prefix(':')?.trim().to_owned()))
}

/// A kernel release without the suffix of its distribution.
fn version(release: &str) -> String {
    release.trim().split('-').next().unwrap_or_default().to_owned()
}

fn kibibytes(value: &str) -> u64 {
    value.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
