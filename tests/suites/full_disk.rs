//! A store whose file system is full: a clear refusal, no leftovers, and published volumes stay and can be unpublished.
//! With snapshots in either format.

mod room;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::random;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::delete;
use nix::fcntl::FallocateFlags;
use nix::fcntl::fallocate;
use nix::sys::statvfs::Statvfs;
use nix::sys::statvfs::statvfs;

/// Makes tests of functions that take the format of snapshots.
macro_rules! in_each_format {
    ($($test:ident)*) => {
        mod directories {
            $(#[test]
            fn $test() {
                super::$test(gitrepo_tests::snapshot_format::Format::Directory);
            })*
        }

        mod images {
            $(#[test]
            fn $test() {
                super::$test(gitrepo_tests::snapshot_format::Format::Image);
            })*
        }
    };
}

use in_each_format;

const SMALL_DISK: u64 = 16 << 20;

/// A shell on a small disk, with a small published volume.
struct Scene {
    shell: Shell,
    server: HttpServer,
    lfs: Lfs,
    small: Repository,
    commit: String,
    published: PathBuf,
}

impl Scene {
    fn new(format: Format) -> Option<Self> {
        let shell = Shell::new_with(SMALL_DISK, format)?;
        let (small, commit) = fixtures::small();
        let lfs = Lfs::new();
        let server = lfs.start(HttpServer::builder().serve(&small));
        let published = shell.target("published");
        shell.mount(&server.url(&small), &published, &[]).assert_success();
        Some(Self { shell, server, lfs, small, commit, published })
    }

    fn space(&self) -> Statvfs {
        statvfs(self.shell.home()).unwrap()
    }

    /// Asserts that mounting `repository` fails for lack of space, and harms nothing else.
    fn assert_does_not_fit(&self, repository: &Repository) {
        self.assert_does_not_fit_with(repository, &[]);
    }

    /// The same with more arguments.
    fn assert_does_not_fit_with(&self, repository: &Repository, more: &[&str]) {
        self.server.add(repository);
        let before = self.space();
        for _ in 0..2 {
            let target = self.shell.target("too-large");
            let outcome = self.shell.mount(&self.server.url(repository), &target, more).assert_code(73);
            assert!(!target.exists(), "{outcome:?}");
        }
        self.shell.run(&["sweep"]).assert_success();
        let after = self.space();
        // A directory of the store may have grown by a block, and there may be new lock files.
        assert!(after.blocks_available() + 64 >= before.blocks_available(), "{before:?} {after:?}");
        assert!(after.files_available() + 8 >= before.files_available(), "{before:?} {after:?}");
        self.assert_volume_lives();
    }

    fn assert_volume_lives(&self) {
        assert_eq!(self.shell.mounts_on(&self.published), 1);
        assert_same_tree(&self.small, &self.commit, ".", &self.published);
    }

    fn assert_can_be_unmounted(&self) {
        self.shell.unmount(&self.published).assert_success();
        assert_eq!(self.shell.mounts_on(&self.published), 0);
        assert!(!self.published.exists());
    }
}

/// Writes until no byte is free.
fn fill_blocks(directory: &Path) -> File {
    let mut file = File::create(directory.join("rest")).unwrap();
    for size in [64 << 10, 4 << 10, 1] {
        let chunk = vec![0; size];
        let error = loop {
            if let Err(error) = file.write_all(&chunk).and_then(|()| file.sync_data()) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
    file
}

/// Takes all blocks but those of so many bytes.
fn fill_except(directory: &Path, bytes: u64) -> File {
    let file = File::create(directory.join("filler")).unwrap();
    let space = statvfs(directory).unwrap();
    let length = (space.blocks_available() * space.fragment_size()).saturating_sub(bytes);
    fallocate(&file, FallocateFlags::empty(), 0, length.try_into().unwrap()).unwrap();
    file
}

/// Makes empty files until no inode is free.
fn fill_inodes(directory: &Path) -> PathBuf {
    let place = directory.join("fillers");
    fs::create_dir(&place).unwrap();
    let error = (0..).find_map(|number| File::create(place.join(format!("{number}"))).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    place
}

fn a_pack_that_does_not_fit_is_refused_and_its_space_freed(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    let large = Repository::new("large");
    large.commit("main", &Files::new().file("noise", fixtures::noise(1, 24 << 20)));
    scene.assert_does_not_fit(&large);
}

fn a_tree_that_does_not_fit_is_refused_and_its_space_freed(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    let large = Repository::new("large");
    let files =
        (0..24).fold(Files::new(), |files, number| files.file(format!("zeros-{number}"), vec![number; 1 << 20]));
    large.commit("main", &files);
    scene.assert_does_not_fit(&large);
}

/// Each object would fit.
fn objects_that_do_not_fit_are_refused_and_their_space_freed(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    let large = Repository::new("objects");
    let files = (0..6).fold(Files::new().file(".gitattributes", ATTRIBUTES), |files, number| {
        scene.lfs.file(files, &format!("{number}.bin"), &vec![number; 4 << 20])
    });
    large.commit("main", &files);
    scene.assert_does_not_fit_with(&large, &["--lfs"]);
    // One of them does, also as a segment and a file.
    let fewer = (1..6).fold(Files::new(), |files, number| files.remove(format!("{number}.bin")));
    // By its id: for a second, what the branch was counts.
    let commit = large.commit("main", &fewer);
    let target = scene.shell.target("fewer");
    scene.shell.mount(&scene.server.url(&large), &target, &["--lfs", "--revision", &commit]).assert_success();
    assert!(fs::read(target.join("0.bin")).unwrap() == vec![0; 4 << 20]);
    scene.shell.unmount(&target).assert_success();
    scene.assert_volume_lives();
}

/// More files than the disk has inodes.
fn too_many_files(scene: &Scene) -> Repository {
    let many = Repository::new("many");
    let count = scene.space().files_available() + 100;
    let files =
        (0..count).fold(Files::new(), |files, number| files.file(format!("{}/{number}", number % 100), "same\n"));
    many.commit("main", &files);
    many
}

#[test]
fn a_tree_of_too_many_files_is_refused_and_its_inodes_freed() {
    let Some(scene) = Scene::new(Format::Directory) else { return };
    scene.assert_does_not_fit(&too_many_files(&scene));
}

#[test]
fn an_image_of_many_files_needs_no_inodes() {
    let Some(scene) = Scene::new(Format::Image) else { return };
    let many = too_many_files(&scene);
    scene.server.add(&many);
    let target = scene.shell.target("many");
    scene.shell.mount(&scene.server.url(&many), &target, &[]).assert_success();
    assert_same_tree(&many, "main", ".", &target);
    scene.shell.unmount(&target).assert_success();
}

fn nothing_new_is_published_on_a_full_disk_and_everything_can_be_unpublished(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    let _filler = fill_blocks(scene.shell.home());
    let other = scene.shell.target("other");
    scene.shell.mount(&scene.server.url(&scene.small), &other, &["--writable=copy"]).assert_code(73);
    assert!(!other.exists());
    scene.assert_volume_lives();
    scene.assert_can_be_unmounted();
}

fn a_volume_is_unpublished_without_a_free_inode(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    let fillers = fill_inodes(scene.shell.home());
    scene.assert_volume_lives();
    scene.assert_can_be_unmounted();
    delete(&fillers);
    scene.shell.mount(&scene.server.url(&scene.small), &scene.published, &[]).assert_success();
    scene.assert_volume_lives();
}

fn the_reserve_stays_free(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    scene.shell.configure(r#"{"cache": {"reserveBytes": "1Gi"}}"#);
    let large = Repository::new("other");
    large.commit("main", &Files::new().file("file", "content\n"));
    scene.assert_does_not_fit(&large);
    scene.assert_can_be_unmounted();
}

fn the_reserve_stays_free_of_writable_copies_too(format: Format) {
    let Some(scene) = Scene::new(format) else { return };
    scene.shell.configure(r#"{"cache": {"reserveBytes": "1Gi"}}"#);
    let target = scene.shell.target("copy");
    let outcome = scene.shell.mount(&scene.server.url(&scene.small), &target, &["--writable", "copy"]).assert_code(73);
    assert!(outcome.stderr.contains("cache.reserveBytes"), "{outcome:?}");
    assert!(!target.exists(), "{outcome:?}");
    scene.assert_volume_lives();
}

fn a_publish_on_a_disk_that_fills_up_at_any_stage_leaves_nothing_or_succeeds(format: Format) {
    let step = random::from_environment("GITREPO_TEST_DISK_STEP", 96 << 10);
    let Some(shell) = Shell::new_with(SMALL_DISK, format) else { return };
    let repository = Repository::new("filling");
    let files = (0..100).fold(Files::new(), |files, number| {
        let file = format!("{}/{number}", number % 10);
        files.file(file, fixtures::noise(number + 1, 12 << 10)).symlink(format!("link-{number}"), "0/0")
    });
    repository.commit("main", &files);
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let target = shell.target("pod");
    // The directories of the store are there, whose blocks are not freed any more.
    shell.mount(&url, &target, &[]).assert_success();
    shell.unmount(&target).assert_success();
    let mut refused = 0;
    let mut succeeded = 0;
    while succeeded < 3 {
        shell.run(&["sweep", "--unreferenced"]).assert_success();
        let free = (refused + succeeded) * step;
        let filler = fill_except(shell.home(), free);
        let outcome = shell.mount(&url, &target, &[]);
        if outcome.status.success() {
            succeeded += 1;
            assert_same_tree(&repository, "main", ".", &target);
            let rest = fill_blocks(shell.home());
            shell.unmount(&target).assert_success();
            drop(rest);
        } else {
            refused += 1;
            let stderr = outcome.assert_code(73).stderr;
            assert_eq!(shell.leftovers(), [] as [PathBuf; 0], "{free} bytes free: {stderr}");
        }
        drop(filler);
        ["filler", "rest"].iter().for_each(|name| drop(fs::remove_file(shell.home().join(name))));
        // What a failure left in the store is of use, or harms nothing.
        shell.mount(&url, &target, &[]).assert_success();
        assert_same_tree(&repository, "main", ".", &target);
        shell.unmount(&target).assert_success();
        assert_eq!(shell.leftovers(), [] as [PathBuf; 0], "{free} bytes free");
    }
    assert!(refused >= 10, "only {refused} stages");
}

in_each_format! {
    a_pack_that_does_not_fit_is_refused_and_its_space_freed
    a_tree_that_does_not_fit_is_refused_and_its_space_freed
    objects_that_do_not_fit_are_refused_and_their_space_freed
    nothing_new_is_published_on_a_full_disk_and_everything_can_be_unpublished
    a_volume_is_unpublished_without_a_free_inode
    the_reserve_stays_free
    the_reserve_stays_free_of_writable_copies_too
    a_publish_on_a_disk_that_fills_up_at_any_stage_leaves_nothing_or_succeeds
}
