//! The tools of erofs-utils.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::require;

/// Before this version, the tools take no other blocks than those of 4096 bytes.
const ANY_BLOCK_SIZE: (u32, u32) = (1, 6);

/// Whether the tools are there.
pub fn has_tools() -> bool {
    require::tool("fsck.erofs") && require::tool("dump.erofs")
}

/// Whether the tools take small blocks.
pub fn take_small_blocks() -> bool {
    let output = Command::new(require::find("fsck.erofs").unwrap()).arg("-V").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let version = said.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    let mut numbers = version.unwrap().split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= ANY_BLOCK_SIZE
}

/// Asserts that the tools accept an image, and returns what `dump.erofs` says about it.
pub fn assert_accepted(image: &Path, devices: &[PathBuf]) -> String {
    run("fsck.erofs", &[], devices, image);
    run("dump.erofs", &["-s"], devices, image)
}

/// Runs a tool, which must succeed and complain about nothing, and returns what it says.
fn run(tool: &str, arguments: &[&str], devices: &[PathBuf], image: &Path) -> String {
    let mut command = Command::new(require::find(tool).unwrap());
    command.args(arguments).args(devices.iter().map(|device| format!("--device={}", device.display())));
    let output = command.arg(image).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("<E>") && !said.contains("<W>"), "{command:?}: {said}");
    said
}
