//! The FlexVolume driver: not there yet.
//!
//! Until it is, every call gets the contract's one JSON object (kubelet `pkg/volume/flexvolume/driver-call.go`), so that an
//! executable installed too early fails its volumes with a reason instead of breaking the kubelet's decoder.

use std::io::Write;

fn main() {
    let answer = r#"{"status":"Failure","message":"gitrepo-flex is not there yet; use gitrepo-cli"}"#;
    writeln!(std::io::stdout(), "{answer}").ok();
}
