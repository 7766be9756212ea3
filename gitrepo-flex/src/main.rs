//! `gitrepo-flex`: the FlexVolume driver, an executable that the kubelet runs once for each call.
//!
//! ```text
//!  kubelet ── argv ──► arguments ─► call ─┬─ init                        ┐
//!                                         ├─ mount ── options ─► core    ├─► answer ── one JSON object ──► kubelet
//!                                         └─ unmount ─────────► core     ┘
//! ```
//!
//! The kubelet's `pkg/volume/flexvolume/driver-call.go` defines the contract: in every case standard output and error
//! together are one JSON object, and the exit status is 0. The arguments may hold secrets, so this program only answers
//! such calls; a separate program, `gitrepo-flex-install`, installs it.

mod answer;
mod arguments;
mod call;
mod driver;
mod error;
mod fault;
mod host_target;
mod interrupt;
mod log;
mod mount;
mod options;
mod sweep;
mod target;
mod unmount;
mod volume_id;

use std::process::ExitCode;

use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;
use gitrepo_frontend::descriptors;

fn main() -> ExitCode {
    gitrepo_core::worker::run_if_worker();
    // Must run while there is one thread: later threads inherit its capabilities.
    let dropped = capabilities::drop_others(Role::Node);
    descriptors::allow_all();
    driver::run(arguments::take(std::env::args_os().collect()), dropped);
    // Any other status makes the kubelet log all arguments, secrets included.
    ExitCode::SUCCESS
}
