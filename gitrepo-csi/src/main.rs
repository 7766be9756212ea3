//! The CSI driver: not there yet.

use std::io::Write;
use std::process::ExitCode;

/// `EX_UNAVAILABLE` of `sysexits.h`.
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    writeln!(std::io::stderr(), "gitrepo-csi is not there yet; use gitrepo-cli").ok();
    ExitCode::from(UNAVAILABLE)
}
