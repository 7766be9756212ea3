//! A store whose file system is full: a clear refusal, no leftovers, and published volumes stay and can be unpublished.

mod room;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::delete;
use nix::sys::statvfs::Statvfs;
use nix::sys::statvfs::statvfs;

const SMALL_DISK: u64 = 16 << 20;

/// A shell on a small disk, with a small published volume.
struct Scene {
    shell: Shell,
    server: HttpServer,
    small: Repository,
    commit: String,
    published: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        let shell = Shell::new(SMALL_DISK)?;
        let (small, commit) = fixtures::small();
        let server = HttpServer::start(&small);
        let published = shell.target("published");
        shell.mount(&server.url(&small), &published, &[]).assert_success();
        Some(Self { shell, server, small, commit, published })
    }

    fn space(&self) -> Statvfs {
        statvfs(self.shell.home()).unwrap()
    }

    /// Asserts that mounting `repository` fails for lack of space, and harms nothing else.
    fn assert_does_not_fit(&self, repository: &Repository) {
        self.server.add(repository);
        let before = self.space();
        for _ in 0..2 {
            let target = self.shell.target("too-large");
            let outcome = self.shell.mount(&self.server.url(repository), &target, &[]).assert_code(73);
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
    let mut file = File::create(directory.join("filler")).unwrap();
    for size in [64 << 10, 1] {
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

/// Makes empty files until no inode is free.
fn fill_inodes(directory: &Path) -> PathBuf {
    let place = directory.join("fillers");
    fs::create_dir(&place).unwrap();
    let error = (0..).find_map(|number| File::create(place.join(format!("{number}"))).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    place
}

#[test]
fn a_pack_that_does_not_fit_is_refused_and_its_space_freed() {
    let Some(scene) = Scene::new() else { return };
    let large = Repository::new("large");
    large.commit("main", &Files::new().file("noise", fixtures::noise(1, 24 << 20)));
    scene.assert_does_not_fit(&large);
}

#[test]
fn a_tree_that_does_not_fit_is_refused_and_its_space_freed() {
    let Some(scene) = Scene::new() else { return };
    let large = Repository::new("large");
    let files =
        (0..24).fold(Files::new(), |files, number| files.file(format!("zeros-{number}"), vec![number; 1 << 20]));
    large.commit("main", &files);
    scene.assert_does_not_fit(&large);
}

#[test]
fn a_tree_of_too_many_files_is_refused_and_its_inodes_freed() {
    let Some(scene) = Scene::new() else { return };
    // An image needs no inode for a file.
    scene.shell.configure(r#"{"cache": {"reserveBytes": "0"}, "snapshotFormat": "directory"}"#);
    let many = Repository::new("many");
    let count = scene.space().files_available() + 100;
    let files =
        (0..count).fold(Files::new(), |files, number| files.file(format!("{}/{number}", number % 100), "same\n"));
    many.commit("main", &files);
    scene.assert_does_not_fit(&many);
}

#[test]
fn nothing_new_is_published_on_a_full_disk_and_everything_can_be_unpublished() {
    let Some(scene) = Scene::new() else { return };
    let _filler = fill_blocks(scene.shell.home());
    let other = scene.shell.target("other");
    scene.shell.mount(&scene.server.url(&scene.small), &other, &["--writable=copy"]).assert_code(73);
    assert!(!other.exists());
    scene.assert_volume_lives();
    scene.assert_can_be_unmounted();
}

#[test]
fn a_volume_is_unpublished_without_a_free_inode() {
    let Some(scene) = Scene::new() else { return };
    let fillers = fill_inodes(scene.shell.home());
    scene.assert_volume_lives();
    scene.assert_can_be_unmounted();
    delete(&fillers);
    scene.shell.mount(&scene.server.url(&scene.small), &scene.published, &[]).assert_success();
    scene.assert_volume_lives();
}

#[test]
fn the_reserve_stays_free() {
    let Some(scene) = Scene::new() else { return };
    scene.shell.configure(r#"{"cache": {"reserveBytes": "1Gi"}}"#);
    let large = Repository::new("other");
    large.commit("main", &Files::new().file("file", "content\n"));
    scene.assert_does_not_fit(&large);
    scene.assert_can_be_unmounted();
}

#[test]
fn the_reserve_stays_free_of_writable_copies_too() {
    let Some(scene) = Scene::new() else { return };
    scene.shell.configure(r#"{"cache": {"reserveBytes": "1Gi"}}"#);
    let target = scene.shell.target("copy");
    let outcome = scene.shell.mount(&scene.server.url(&scene.small), &target, &["--writable", "copy"]).assert_code(73);
    assert!(outcome.stderr.contains("cache.reserveBytes"), "{outcome:?}");
    assert!(!target.exists(), "{outcome:?}");
    scene.assert_volume_lives();
}
