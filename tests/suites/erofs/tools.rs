//! Images that the tools of erofs-utils accept.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_core::testing::image::BlockSize;
use gitrepo_core::testing::image::View;
use gitrepo_tests::require;
use tempfile::TempDir;

use super::sample::BLOCK_SIZES;
use super::sample::GROUP;
use super::sample::PLAIN;
use super::sample::Sample;
use super::samples;

/// Before this version, the tools take no other blocks than those of 4096 bytes.
const ANY_BLOCK_SIZE: (u32, u32) = (1, 6);

/// Runs a tool, which must succeed and complain about nothing, and returns what it says.
fn run(tool: &str, arguments: &[&str], devices: &[PathBuf], image: &Path) -> String {
    let mut command = Command::new(require::find(tool).unwrap());
    command.args(arguments).args(devices.iter().map(|device| format!("--device={}", device.display())));
    let output = command.arg(image).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("<E>") && !said.contains("<W>"), "{command:?}: {said}");
    said
}

fn version() -> (u32, u32) {
    let output = Command::new(require::find("fsck.erofs").unwrap()).arg("-V").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let version = said.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    let mut numbers = version.unwrap().split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn assert_accepted(sample: &Sample, view: &View) {
    let place = TempDir::new().unwrap();
    let devices = sample.write_devices(place.path());
    let image = place.path().join("image");
    std::fs::write(&image, sample.build(view).unwrap()).unwrap();
    run("fsck.erofs", &[], &devices, &image);
    let said = run("dump.erofs", &["-s"], &devices, &image);
    let inodes = said.lines().find_map(|line| line.strip_prefix("Filesystem inode count:")).expect(&said);
    assert_eq!(inodes.trim(), (sample.nodes.len() + 1).to_string());
    assert!(said.contains("sb_csum mtime"), "{said}");
}

#[test]
fn fsck_and_dump_accept_images() {
    if !require::tool("fsck.erofs") || !require::tool("dump.erofs") {
        return;
    }
    for block_size in BLOCK_SIZES {
        if block_size != BlockSize::B4096 && version() < ANY_BLOCK_SIZE {
            continue;
        }
        for (name, sample) in samples(block_size) {
            assert_accepted(&sample, &PLAIN);
            if name == "odd" {
                assert_accepted(&sample, &GROUP);
            }
        }
    }
}
