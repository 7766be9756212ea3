//! Beside git-lfs itself: it makes the pointers and pushes the objects, and we show what it shows.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lfs::oid;
use gitrepo_tests::lfs::pointer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::submodules::Contents;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use tempfile::TempDir;

use super::FLAG;
use super::Scene;
use super::content;

/// A person with git-lfs, in a home of their own.
struct Client {
    home: TempDir,
}

impl Client {
    fn if_possible() -> Option<Self> {
        require::tool("git-lfs").then(|| Self { home: TempDir::new().unwrap() })
    }

    fn git(&self, directory: &Path) -> Command {
        let mut command = git::command(directory);
        command.env("HOME", self.home.path()).env_remove("GIT_CONFIG_GLOBAL");
        command
    }

    /// A clone in which git-lfs is the filter.
    fn clone(&self, url: &str) -> PathBuf {
        let tree = self.home.path().join("tree");
        let filters = ["filter.lfs.process=git-lfs filter-process", "filter.lfs.required=true"];
        let mut clone = self.git(self.home.path());
        clone.args(filters.iter().flat_map(|filter| ["-c", filter])).args(["clone", "--quiet", url, "tree"]);
        git::output(&mut clone);
        tree
    }
}

/// The pointers are in the repository, and the content is in the files.
#[test]
fn beside_a_git_directory_git_lfs_finds_nothing_to_do() {
    let Some(client) = Client::if_possible() else { return };
    let scene = Scene::new();
    scene.person.clone(&scene.url(), &[FLAG, "--git-dir", "keep"]).assert_success();
    let tree = scene.person.tree();
    assert!(std::fs::read(tree.join("a.bin")).unwrap() == scene.a, "a.bin is another file");
    assert_clean(&tree);
    assert_whole(&tree, &scene.repository, &scene.repository.resolve("main"), 1);
    let run = |words: &[&str]| git::text(git::output(client.git(&tree).args(words)));
    assert!(run(&["show", "HEAD:a.bin"]).starts_with("version https://git-lfs"));
    assert_eq!(run(&["lfs", "ls-files", "--name-only"]), "a.bin\ndir/b.bin");
    // With its filter, also what git has to read is the same, and what is changed becomes a pointer.
    run(&["lfs", "install", "--local"]);
    for path in ["a.bin", "dir/b.bin"] {
        std::fs::File::options().write(true).open(tree.join(path)).unwrap().set_modified(SystemTime::now()).unwrap();
    }
    assert_eq!(run(&["status", "--porcelain"]), "");
    std::fs::write(tree.join("a.bin"), "changed").unwrap();
    run(&["add", "a.bin"]);
    assert_eq!(run(&["show", ":a.bin"]), pointer(&oid(b"changed"), 7).trim_end());
}

fn shown(server: &HttpServer, repository: &Repository) -> Contents {
    let person = Person::new();
    person.clone(&server.url(repository), &[FLAG]).assert_success();
    contents(&person.tree())
}

fn assert_same(found: &Contents, expected: &Contents) {
    let names = |contents: &Contents| contents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, (mode, content)) in expected {
        let (found_mode, found_content) = &found[path];
        let is_link = mode & libc::S_IFMT == libc::S_IFLNK;
        assert!(is_link || found_mode & 0o170_100 == mode & 0o170_100, "{}: {found_mode:o} {mode:o}", path.display());
        assert!(found_content == content, "{} is {:?}", path.display(), String::from_utf8_lossy(found_content));
    }
}

#[test]
fn what_git_lfs_pushes_is_shown_as_git_lfs_shows_it() {
    let Some(client) = Client::if_possible() else { return };
    let (repository, lfs) = (Repository::new("app"), Lfs::new());
    let server = lfs.start(HttpServer::builder().serve(&repository));
    let work = client.home.path().join("work");
    std::fs::create_dir_all(work.join("dir")).unwrap();
    let run = |words: &[&str]| git::output(client.git(&work).args(words));
    run(&["init", "--quiet", "--initial-branch=main"]);
    run(&["lfs", "install", "--local"]);
    run(&["config", "lfs.url", &format!("{}/info/lfs", server.url(&repository))]);
    run(&["config", "lfs.locksverify", "false"]);
    // It takes the link below for a pointer when it pushes, and for a link when it checks out.
    run(&["config", "lfs.allowincompletepush", "true"]);
    run(&["lfs", "track", "*.bin", "dir/*.raw"]);
    for (path, content) in [
        ("a.bin", content(1, 300_000)),
        ("dir/b.raw", content(2, 1)),
        ("empty.bin", Vec::new()),
        ("run.bin", b"#!/bin/sh\n".to_vec()),
        ("plain.txt", b"text\n".to_vec()),
    ] {
        std::fs::write(work.join(path), content).unwrap();
    }
    std::fs::set_permissions(work.join("run.bin"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(pointer(&oid(b"x"), 1), work.join("link.bin")).unwrap();
    run(&["add", "--all"]);
    run(&["commit", "--quiet", "--message=m"]);
    run(&["push", "--quiet", &repository.path().display().to_string(), "main"]);
    assert_eq!(lfs.oids().len(), 3, "a.bin, b.raw and run.bin");
    let expected = contents(&client.clone(&server.url(&repository)));
    assert!(expected[Path::new("a.bin")].1 == content(1, 300_000), "git-lfs itself does not show it");
    assert_same(&shown(&server, &repository), &expected);
}

/// Ways to write a pointer, by git-lfs's `decodeKV` and by hand. Of each, git-lfs decides whether it is one.
#[test]
fn whatever_git_lfs_takes_for_a_pointer_is_one() {
    let Some(client) = Client::if_possible() else { return };
    let (repository, lfs) = (Repository::new("app"), Lfs::new());
    let seven = b"content";
    let good = lfs.add(seven);
    let (version, rest) = good.split_once('\n').unwrap();
    let (hash, _) = rest.split_once('\n').unwrap();
    let with_size = |size: &str| format!("{version}\n{hash}\nsize {size}\n");
    let texts = [
        good.clone(),
        good.replace('\n', "\r\n"),
        good.trim_end().to_owned(),
        good.replace('\n', "\n\n"),
        format!("\n  {good}\t \n"),
        format!("{good}\u{a0}\u{85}\u{b}"),
        format!("\u{feff}{good}"),
        format!("{good}\0"),
        good.replace("\nsize", "\rsize"),
        good.replace("size ", "size\t"),
        good.replace("size ", "size  "),
        with_size("+7"),
        with_size("007"),
        with_size("-7"),
        with_size("0x7"),
        with_size("7_"),
        with_size("7.0"),
        with_size(""),
        with_size("9223372036854775808"),
        good.replace("git-lfs.github", "hawser.github"),
        good.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
        good.replace("spec/v1", "spec/v2"),
        good.replace("https", "http"),
        good.to_uppercase(),
        good.replace(hash, &hash.to_uppercase().replace("OID SHA256", "oid sha256")),
        good.replace(hash, &format!("{hash}ab")),
        good.replace(hash, &hash.replace("sha256", "sha512")),
        format!("{good}x-more y\n"),
        good.replace("\nsize", "\nx-more y\nsize"),
        format!("{version}\nsize 7\n{hash}\n"),
        format!("{hash}\nsize 7\n{version}\n"),
        format!("{version}\nsize 7\n"),
        format!("{version}\n{hash}\n"),
        format!("{version}\n"),
        pointer(&oid(b""), 0),
        pointer(&oid(b""), 0).replace("size 0", "size -0"),
        format!("{good:\n<1023}"),
    ];
    let files = Files::new().file(".gitattributes", "*.bin filter=lfs\n");
    let files = texts.iter().enumerate().fold(files, |files, (number, text)| files.file(format!("{number}.bin"), text));
    let files = files.executable("run.bin", &good).symlink("link.bin", &good);
    repository.commit("main", &files);
    let server = lfs.start(HttpServer::builder().serve(&repository));
    let expected = contents(&client.clone(&server.url(&repository)));
    let replaced = expected.values().filter(|(_, content)| content == seven).count();
    assert!((10..20).contains(&replaced), "git-lfs shows {replaced} contents");
    assert_same(&shown(&server, &repository), &expected);
}
