//! Objects that git itself would not write, and reads.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::RawEntry;
use gitrepo_tests::repository::Repository;
use tempfile::TempDir;

use super::git_clones_to;
use super::words;

/// What is in a tree: path, kind or mode for the owner, and content.
fn listing(tree: &Path) -> Vec<(String, String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut places = vec![tree.to_owned()];
    while let Some(place) = places.pop() {
        for path in gitrepo_tests::volumes::entries(&place) {
            let name = path.strip_prefix(tree).unwrap().to_str().unwrap().to_owned();
            if name == ".git" {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                found.push((name, "directory".to_owned(), Vec::new()));
                places.push(path);
            } else if metadata.is_symlink() {
                let target = std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                found.push((name, "link".to_owned(), target));
            } else {
                let mode = if metadata.permissions().mode() & 0o100 != 0 { "executable" } else { "file" };
                found.push((name, mode.to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort_unstable();
    found
}

/// Clones a branch or tag with git and with us, and compares the trees.
fn assert_same_as_git(person: &Person, server: &HttpServer, repository: &Repository, revision: &str) {
    let url = server.url(repository);
    let place = TempDir::new().unwrap();
    let output = git_clones_to(place.path(), &[], &url, &["--branch", revision]);
    assert!(output.status.success(), "git, {revision}: {}", words(&output));
    let outcome = person.clone(&url, &["--revision", revision]);
    assert!(outcome.status.success(), "{revision}: {}", outcome.stderr);
    let (git, ours) = (listing(&place.path().join("tree")), listing(&person.tree()));
    assert!(!git.is_empty(), "{revision}");
    assert_eq!(ours, git, "{revision}");
    person.discard_tree();
}

#[test]
fn modes_become_what_git_makes_of_them() {
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("f", "x\n"));
    let blob = repository.blob(b"#!/bin/sh\n");
    let tree = repository.raw_tree(&[RawEntry("100644", b"f", &blob)]);
    let target = repository.blob(b"elsewhere");
    let foreign = "0123456789abcdef0123456789abcdef01234567";
    let modes = [
        ("100666", &*blob),
        ("100664", &blob),
        ("100600", &blob),
        ("100640", &blob),
        ("100444", &blob),
        ("100000", &blob),
        ("100011", &blob),
        ("100775", &blob),
        ("100777", &blob),
        ("100700", &blob),
        ("100744", &blob),
        ("100500", &blob),
        ("104755", &blob),
        ("0100644", &blob),
        ("00100755", &blob),
        ("040755", &tree),
        ("040000", &tree),
        ("40777", &tree),
        ("120777", &target),
        ("120644", &target),
        ("160755", foreign),
        ("140000", foreign),
        ("10644", foreign),
    ];
    for (mode, id) in modes {
        let odd = repository.raw_tree(&[RawEntry(mode, b"f", id), RawEntry("100644", b"g", &blob)]);
        repository.set_branch(&format!("m{mode}"), &repository.commit_tree(&odd));
    }
    let server = HttpServer::start(&repository);
    let person = Person::new();
    for (mode, _) in modes {
        assert_same_as_git(&person, &server, &repository, &format!("m{mode}"));
    }
}

#[test]
fn a_commit_needs_no_more_than_a_tree_and_a_time() {
    let repository = Repository::new("app");
    let commit = repository.commit("main", &Files::new().file("f", "x\n").executable("g", "y\n"));
    let tree = repository.resolve("main^{tree}");
    let who = "A <a@b> 1000000000 +0000";
    let commits = [
        ("unclosed", "A <a@b 1000000000 +0000", "A <a@b 1000000000 +0000", ""),
        ("no-email", "A 1000000000 +0000", "A 1000000000 +0000", ""),
        ("odd-author", "\u{1}<<<>>> x", who, ""),
        ("no-name", "<a@b> 1000000000 +0000", "<a@b> 1000000000 +0000", ""),
        ("no-zone", "A <a@b> 1000000000", "A <a@b> 1000000000", ""),
        ("odd-zone", "A <a@b> 1000000000 +99999999", "A <a@b> 1000000000 UTC", ""),
        ("no-time", "A <a@b>", "A <a@b>", ""),
        ("long-time", who, "A <a@b> 99999999999999999999999999 +0000", ""),
        ("far-time", who, "A <a@b> 9999999999999 +0000", ""),
        ("negative-time", who, "A <a@b> -1 +0000", ""),
        ("empty-author", "", who, ""),
        ("more", who, who, "encoding nonsense\nmergetag \nunknown x\n"),
        ("signed", who, who, "gpgsig -----BEGIN\n x\n -----END\n"),
    ];
    for (name, author, committer, more) in commits {
        let content = format!("tree {tree}\nauthor {author}\ncommitter {committer}\n{more}\nm\n");
        let id = repository.raw_object("commit", content.as_bytes());
        repository.set_branch(&format!("e-{name}"), &id);
    }
    let committer_alone = repository.raw_object("commit", format!("tree {tree}\ncommitter {who}\n\nm\n").as_bytes());
    repository.set_branch("e-no-author", &committer_alone);
    let tags = [
        ("badtagger", format!("object {commit}\ntype commit\ntag x\ntagger A 1000000000 +0000\n\nm\n")),
        ("no-tagger", format!("object {commit}\ntype commit\ntag x\n\nm\n")),
        ("other-name", format!("object {commit}\ntype commit\ntag ../x\ntagger {who}\n\nm\n")),
        ("no-message", format!("object {commit}\ntype commit\ntag x\ntagger {who}\n")),
    ];
    for (name, content) in &tags {
        repository.set_reference(&format!("refs/tags/t-{name}"), &repository.raw_object("tag", content.as_bytes()));
    }
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let names = commits.map(|(name, ..)| format!("e-{name}")).into_iter().chain(["e-no-author".to_owned()]);
    for revision in names.chain(tags.map(|(name, _)| format!("t-{name}"))) {
        assert_same_as_git(&person, &server, &repository, &revision);
    }
}

/// git refuses it, too: "invalid path".
#[test]
fn what_cannot_be_a_file_name_is_refused_by_its_path() {
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("f", "x\n"));
    let blob = repository.blob(b"x\n");
    let inner = repository.raw_tree(&[RawEntry("100644", b"..", &blob)]);
    let outer = repository.raw_tree(&[RawEntry("40000", b"deep", &inner)]);
    repository.set_branch("main", &repository.commit_tree(&outer));
    let server = HttpServer::start(&repository);
    let person = Person::new();
    super::assert_git(false, &[], &server.url(&repository), "..");
    super::assert_we_refuse(&person, &server.url(&repository), &[], 77, &["\"deep/..\""], "..");
}
