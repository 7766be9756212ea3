//! `gitrepo-csi`: git repositories as Kubernetes volumes, for the kubelet and the external provisioner.

use std::alloc::System;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use gitrepo_core::error::chain;
use gitrepo_csi::arguments::Arguments;
use gitrepo_csi::driver;
use gitrepo_csi::memory;
use gitrepo_csi::wipe::Wiping;
use gitrepo_frontend::descriptors;
use gitrepo_frontend::exit;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping::new(System);

fn main() -> ExitCode {
    // A worker frees much content of files, and ends with its session, so its memory is not wiped.
    gitrepo_core::worker::run_if_worker();
    ALLOCATOR.begin();
    memory::share_one_heap();
    descriptors::allow_all();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return exit::usage(&usage),
    };
    match driver::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The logs may not have started yet, or may have ended.
            writeln!(std::io::stderr(), "gitrepo-csi: {}", chain(&error)).ok();
            exit::status(error.kind())
        }
    }
}
