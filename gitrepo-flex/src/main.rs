//! `gitrepo-flex`: the FlexVolume driver, an executable that the kubelet runs once for each call.
//!
//! ```text
//!  kubelet ── argv ──► arguments ─► call ─┬─ init                        ┐
//!                                         ├─ mount ── options ─► core    ├─► answer ── one JSON object ──► kubelet
//!                                         └─ unmount ─────────► core     ┘
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

fn main() -> ExitCode {
    gitrepo_core::worker::run_if_worker();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    driver::run(arguments::take(arguments));
    // Anything else makes the kubelet log all arguments, secrets included.
    ExitCode::SUCCESS
}
