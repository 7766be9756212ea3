//! `gitrepo-flex`: the FlexVolume driver, an executable that the kubelet runs once for each call, and its installer.
//!
//! ```text
//!  kubelet ── argv ──► arguments ─► call ─┬─ init                        ┐
//!                                         ├─ mount ── options ─► core    ├─► answer ── one JSON object ──► kubelet
//!                                         └─ unmount ─────────► core     ┘
//!  a person, the DaemonSet ── install, uninstall, healthy ──► install
//! ```
//!
//! The contract is the kubelet's `pkg/volume/flexvolume/driver-call.go`: whatever happens, standard output and error
//! together are one JSON object, and the exit status is 0.

mod answer;
mod arguments;
mod call;
mod configuration;
mod driver;
mod error;
mod fault;
mod install;
mod interrupt;
mod log;
mod mount;
mod options;
mod stores;
mod sweep;
mod target;
mod unmount;
mod volume_id;

use std::ffi::OsString;
use std::process::ExitCode;

use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;

fn main() -> ExitCode {
    gitrepo_core::worker::run_if_worker();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| install::is_command(word)) {
        return install::run(arguments);
    }
    // While there is one thread: all that start later have what this one has.
    let dropped = capabilities::drop_others(Role::Node);
    driver::run(arguments::take(arguments), dropped);
    // Anything else makes the kubelet log all arguments, secrets included.
    ExitCode::SUCCESS
}
