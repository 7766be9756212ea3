//! Images that the kernel mounts, as files and as loop devices, compared entry by entry.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::testing::image::BlockSize;
use gitrepo_core::testing::image::View;
use gitrepo_tests::erofs::Content;
use gitrepo_tests::erofs::Entry;
use gitrepo_tests::erofs::Mounted;
use gitrepo_tests::erofs::Way;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::require;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::many_devices;
use super::odd;
use super::reading;
use super::sample::BLOCK_SIZES;
use super::sample::GROUP;
use super::sample::PLAIN;
use super::sample::Sample;
use super::samples;

/// A fresh ext4, where images and devices can be. The filesystem of the temporary directory may not take mounts of its
/// files.
struct Place {
    disk: LoopFs,
    way: Way,
}

impl Place {
    /// `None` if this machine cannot mount in this way.
    fn new(way: Way) -> Option<Self> {
        let disk = LoopFs::if_possible(256 << 20)?;
        fs::create_dir(disk.path().join("mounted")).unwrap();
        fs::create_dir(disk.path().join("devices")).unwrap();
        let place = Self { disk, way };
        let (image, target) = (place.write(&Sample::new(0, BlockSize::B4096), &PLAIN), place.path("mounted"));
        let what = format!("mounts of EROFS as {way:?} (for files: Linux 6.12)");
        require::feature(way.works(&image, &target), &what).then_some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    fn write(&self, sample: &Sample, view: &View) -> PathBuf {
        let image = self.path("image");
        fs::write(&image, sample.build(view).unwrap()).unwrap();
        image
    }

    fn mount(&self, sample: &Sample, view: &View) -> Mounted {
        let devices = sample.write_devices(&self.path("devices"));
        self.way.mount(&self.write(sample, view), &devices, &self.path("mounted")).unwrap()
    }

    fn assert_mounted(&self, sample: &Sample, view: &View) {
        let mounted = self.mount(sample, view);
        let (found, mut expected) = (mounted.entries(), sample.expected(view));
        expected.values_mut().for_each(forget_place);
        for (path, entry) in &expected {
            assert_eq!(found.get(path), Some(entry), "{}", path.escape_ascii());
        }
        assert_eq!(found.len(), expected.len());
        sample.assert_content(mounted.path());
        assert_read_only(mounted.path());
    }
}

/// Only the image says where content is.
fn forget_place(entry: &mut Entry) {
    if let Content::File { place, .. } = &mut entry.content {
        *place = None;
    }
}

fn assert_read_only(root: &Path) {
    let error = fs::write(root.join("new"), "content").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
}

fn every_sample(way: Way) {
    let Some(place) = Place::new(way) else { return };
    for block_size in BLOCK_SIZES {
        for (name, sample) in samples(block_size) {
            // Loop devices are a resource of the whole machine.
            if name != "many devices" || way == Way::Files {
                place.assert_mounted(&sample, &PLAIN);
            }
        }
        place.assert_mounted(&odd(block_size), &GROUP);
    }
}

fn random_trees(way: Way) {
    let Some(place) = Place::new(way) else { return };
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let few = |sample: &Sample| way == Way::Files || sample.devices.len() < 5;
    let trees = reading::tree(3 << 19).prop_filter("few loop devices", few);
    TestRunner::new(config)
        .run(&(trees, reading::view()), |(sample, view)| {
            place.assert_mounted(&sample, &view);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_kernel_shows_every_entry_of_an_image_in_a_file() {
    every_sample(Way::Files);
}

#[test]
fn the_kernel_shows_every_entry_of_an_image_on_loop_devices() {
    every_sample(Way::LoopDevices);
}

#[test]
fn the_kernel_shows_random_trees_in_files() {
    random_trees(Way::Files);
}

#[test]
fn the_kernel_shows_random_trees_on_loop_devices() {
    random_trees(Way::LoopDevices);
}

#[test]
fn two_views_of_the_same_content_are_mounted_together() {
    let Some(place) = Place::new(Way::Files) else { return };
    let sample = many_devices(BlockSize::B512);
    let first = place.mount(&sample, &PLAIN);
    fs::create_dir(place.path("second")).unwrap();
    let image = place.path("second image");
    fs::write(&image, sample.build(&GROUP).unwrap()).unwrap();
    let devices: Vec<_> = (0..sample.devices.len()).map(|device| place.path(&format!("devices/{device}"))).collect();
    let second = Way::Files.mount(&image, &devices, &place.path("second")).unwrap();
    let modes = |mounted: &Mounted| mounted.entries()[&b"1"[..]].clone();
    assert_eq!((modes(&first).gid, modes(&first).mode), (0, 0o100755));
    assert_eq!((modes(&second).gid, modes(&second).mode), (GROUP.gid, 0o100775));
    for mounted in [&first, &second] {
        sample.assert_content(mounted.path());
    }
}
