//! Images that the tools of erofs-utils accept.

use gitrepo_core::testing::image::BlockSize;
use gitrepo_core::testing::image::View;
use gitrepo_tests::erofs::tools;
use tempfile::TempDir;

use super::sample::BLOCK_SIZES;
use super::sample::GROUP;
use super::sample::PLAIN;
use super::sample::Sample;
use super::samples;

fn assert_accepted(sample: &Sample, view: &View) {
    let place = TempDir::new().unwrap();
    let devices = sample.write_devices(place.path());
    let image = place.path().join("image");
    std::fs::write(&image, sample.build(view).unwrap()).unwrap();
    let said = tools::assert_accepted(&image, &devices);
    let inodes = said.lines().find_map(|line| line.strip_prefix("Filesystem inode count:")).expect(&said);
    assert_eq!(inodes.trim(), (sample.nodes.len() + 1).to_string());
    assert!(said.contains("sb_csum mtime"), "{said}");
}

#[test]
fn fsck_and_dump_accept_images() {
    if !tools::has_tools() {
        return;
    }
    for block_size in BLOCK_SIZES {
        if block_size != BlockSize::B4096 && !tools::take_small_blocks() {
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
