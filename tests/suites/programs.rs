//! How the harness runs programs.

use std::os::unix::process::ExitStatusExt;

use gitrepo_tests::program::Program;
use nix::sys::signal::Signal;

fn shell() -> Program {
    Program::new("/bin/sh".into())
}

#[test]
fn program_has_its_own_home_and_not_the_callers_environment() {
    let program = shell().env("GIVEN", "value");
    let outcome = program.run(["-c", "pwd; env | cut -d = -f 1 | sort"]).assert_success();
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), program.home().canonicalize().unwrap().to_str());
    let variables: Vec<&str> = lines.filter(|name| !["_", "OLDPWD", "SHLVL"].contains(name)).collect();
    assert_eq!(variables, ["GIVEN", "HOME", "PATH", "PWD"]);
}

#[test]
fn outcome_has_both_outputs_and_the_status() {
    let outcome = shell().run(["-c", "echo out; echo err >&2; exit 64"]).assert_code(64);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code()), ("out\n", "err\n", 64));
}

#[test]
fn running_program_can_be_killed_and_is_killed_when_dropped() {
    let outcome = shell().spawn(["-c", "echo started; exec cat /dev/zero >/dev/null"]).kill();
    assert_eq!(outcome.status.signal(), Some(Signal::SIGKILL as i32));
    let running = shell().spawn(["-c", "exec cat /dev/zero >/dev/null"]);
    let process = format!("/proc/{}", running.id());
    assert!(std::fs::exists(&process).unwrap());
    drop(running);
    assert!(!std::fs::exists(&process).unwrap());
}

#[test]
fn command_line_tool_is_built_and_runs() {
    let outcome = Program::cli().run(["--version"]).assert_success();
    assert_eq!(outcome.stdout.trim_end(), concat!("gitrepo-cli ", env!("CARGO_PKG_VERSION")));
    Program::cli().run(["no-such-command"]).assert_code(64);
}
