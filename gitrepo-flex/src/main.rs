//! The FlexVolume driver: not there yet, but it installs itself.
//!
//! Until it is, every call gets the contract's one JSON object (kubelet `pkg/volume/flexvolume/driver-call.go`), so that an
//! executable installed too early fails its volumes with a reason instead of breaking the kubelet's decoder.

mod install;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    gitrepo_core::worker::run_if_worker();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| install::is_command(word)) {
        return install::run(arguments);
    }
    let answer = r#"{"status":"Failure","message":"gitrepo-flex is not there yet; use gitrepo-cli"}"#;
    writeln!(std::io::stdout(), "{answer}").ok();
    ExitCode::SUCCESS
}
