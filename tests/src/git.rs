//! The git command line, isolated from the user's configuration.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// The time of the first commit of every [`Repository`][crate::repository::Repository], in seconds since the epoch.
/// Each further one is a minute later.
pub const EPOCH: u64 = 1_700_000_000;

/// `git` in `directory`: no system or user configuration, no prompts, fixed authors and dates, English messages.
pub fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).env_clear().envs(environment());
    command
}

/// The environment of [`command`], for programs that start git themselves.
pub fn environment() -> Vec<(&'static str, String)> {
    let date = format!("@{EPOCH} +0000");
    vec![
        ("PATH", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned())),
        ("HOME", "/nonexistent".to_owned()),
        ("LC_ALL", "C".to_owned()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
        ("GIT_AUTHOR_NAME", "Author".to_owned()),
        ("GIT_AUTHOR_EMAIL", "author@example.com".to_owned()),
        ("GIT_AUTHOR_DATE", date.clone()),
        ("GIT_COMMITTER_NAME", "Committer".to_owned()),
        ("GIT_COMMITTER_EMAIL", "committer@example.com".to_owned()),
        ("GIT_COMMITTER_DATE", date),
    ]
}

/// Runs a command that must succeed, and returns its output.
pub fn output(command: &mut Command) -> Vec<u8> {
    output_with_input(command, &[])
}

/// Runs a command that must succeed with `input`, and returns its output.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early closes its pipe. Its status reports the failure.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Like [`output`], for one line of text.
pub fn line(command: &mut Command) -> String {
    text(output(command))
}

/// One line of text, without its newline.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}
