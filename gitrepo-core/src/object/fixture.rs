//! The git command line as a second opinion.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Whether git is installed. Without it a test is skipped with a message, unless all tests are required.
pub(crate) fn has_git() -> bool {
    let is_there = Command::new("git").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("GITREPO_REQUIRE_ALL").is_none_or(|value| value != "1"), "needs git");
        eprintln!("skipped: git is not installed");
    }
    is_there
}

/// Runs git in `directory` with this input, and returns its output. It must succeed.
pub(crate) fn git(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early closes its pipe. Its status tells that.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
