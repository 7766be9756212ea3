//! The harness's repositories, checked with git.

use std::process::Command;

use gitrepo_tests::fixtures;
use gitrepo_tests::fixtures::hostile;
use gitrepo_tests::git;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::tree::assert_times;
use tempfile::TempDir;

/// A checkout by git, without `.git`, with all times set to the commit's.
fn checkout(repository: &Repository, commit: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    git::output(repository.git(["-c", "core.attributesFile=/dev/null", "--work-tree"]).arg(place.path()).args([
        "-c",
        "core.autocrlf=false",
        "read-tree",
        "--index-output=index",
        commit,
    ]));
    // The repository's own attributes override those of the tree.
    std::fs::create_dir_all(repository.path().join("info")).unwrap();
    let attributes = "* -text -filter -ident -working-tree-encoding\n";
    std::fs::write(repository.path().join("info/attributes"), attributes).unwrap();
    git::output(repository.git(["--work-tree"]).arg(place.path()).args(["checkout-index", "--all", "--force"]));
    for directory in repository.list(commit, ".").iter().filter(|listed| listed.mode == "160000") {
        std::fs::create_dir_all(place.path().join(str::from_utf8(&directory.path).unwrap())).unwrap();
    }
    place
}

fn touch(directory: &std::path::Path, time: u64) {
    let mut find = Command::new("find");
    git::output(find.arg(directory).args([
        "-exec",
        "touch",
        "--no-dereference",
        "--date",
        &format!("@{time}"),
        "{}",
        "+",
    ]));
}

#[test]
fn same_calls_make_the_same_commits() {
    let (one, two) = (fixtures::everything(), fixtures::everything());
    assert_eq!(one.commit, two.commit);
    assert_eq!(one.orphan, two.orphan);
    assert_eq!(one.repository.commit_time(&one.commit), git::EPOCH + 120);
}

#[test]
fn the_fixture_everything_has_its_documented_refs() {
    let fixture = fixtures::everything();
    let at = |revision: &str| fixture.repository.resolve(revision);
    assert_eq!(at("HEAD"), fixture.commit);
    assert_eq!(at("refs/tags/v1"), fixture.commit);
    assert_ne!(at("refs/tags/v2"), fixture.commit);
    assert_ne!(at("refs/tags/v3"), at("refs/tags/v2"));
    assert_eq!(at("refs/tags/v3^{commit}"), fixture.commit);
    assert_eq!(at("refs/heads/same"), fixture.same_branch);
    assert_eq!(at("refs/tags/same"), fixture.same_tag);
    assert_eq!(at("refs/heads/old~1"), fixture.first);
    assert_eq!(at("refs/tags/orphan"), fixture.orphan);
    let led_to = git::line(&mut fixture.repository.git(["rev-list", "--all"]));
    assert!(!led_to.contains(&fixture.unreachable));
    assert_eq!(at(&format!("{}^{{commit}}", fixture.unreachable)), fixture.unreachable);
}

#[test]
fn a_checkout_by_git_has_the_same_tree() {
    let fixture = fixtures::everything();
    let checkout = checkout(&fixture.repository, &fixture.commit);
    assert_same_tree(&fixture.repository, &fixture.commit, ".", checkout.path());
    assert_same_tree(&fixture.repository, &fixture.commit, "names", &checkout.path().join("names"));
    let time = fixture.repository.commit_time(&fixture.commit);
    touch(checkout.path(), time);
    assert_times(checkout.path(), time);
}

#[test]
fn every_difference_from_the_tree_is_found() {
    let repository = Repository::new("differences");
    let files = Files::new().file("file", "content").executable("run", "run").symlink("link", "file");
    let commit = repository.commit("main", &files.submodule("sub", &"5ca1ab1e".repeat(5)));
    let changes = [
        "printf x >> file",
        "chmod 600 file",
        "chmod 644 run",
        "chmod u+s run",
        "rm run",
        "ln -sf run link",
        "rm link && cp file link",
        "touch extra",
        "mkdir extra",
        "mkfifo extra",
        "touch sub/extra",
        "rmdir sub",
        "chmod 700 sub",
        "mkdir .git",
    ];
    for change in changes {
        let place = checkout(&repository, &commit);
        assert_same_tree(&repository, &commit, ".", place.path());
        git::output(Command::new("sh").args(["-ec", change]).current_dir(place.path()));
        let compared = std::panic::catch_unwind(|| assert_same_tree(&repository, &commit, ".", place.path()));
        assert!(compared.is_err(), "not found: {change}");
    }
}

#[test]
fn the_fixture_many_has_many_files_of_compressible_text() {
    let repository = fixtures::many(3000);
    let listing = repository.list("main", ".");
    assert_eq!(listing.len(), 3000);
    let bytes: u64 = listing.iter().map(|listed| listed.size).sum();
    assert!((20_000_000..23_000_000).contains(&bytes), "{bytes}");
    git::output(&mut repository.git(["gc", "--quiet"]));
    let packed = git::line(&mut repository.git(["count-objects", "-v"]));
    let kibibytes: u64 = packed.lines().find_map(|line| line.strip_prefix("size-pack: ")).unwrap().parse().unwrap();
    assert!((2_000..12_000).contains(&kibibytes), "{packed}");
}

#[test]
fn empty_repositories_are_empty() {
    let output = fixtures::empty().git(["rev-list", "--all"]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(fixtures::empty_tree().list("main", ".").is_empty());
    let directories = fixtures::empty_directories();
    let listing = git::line(&mut directories.git(["ls-tree", "-r", "-t", "--name-only", "main"]));
    assert_eq!(listing, "full\nfull/file\nfull/nothing\nnothing");
}

#[test]
fn hostile_names_are_refused_by_git() {
    let (repository, traps) = hostile::names();
    let fsck = repository.git(["fsck", "--strict", "--no-dangling"]).output().unwrap();
    let complaints = String::from_utf8(fsck.stderr).unwrap();
    for trap in traps {
        let mut read = repository.git(["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true", "read-tree"]);
        let output = read.args(["--index-output=index", &trap.branch]).output().unwrap();
        // A name with a slash reads like any path, so only fsck finds it.
        let tree = repository.resolve(&format!("{}^{{tree}}", trap.branch));
        let refused = !output.status.success() || complaints.contains(&format!("error in tree {tree}"));
        assert!(refused, "git accepts {}", trap.what);
    }
}

#[test]
fn hostile_objects_have_the_intended_content() {
    let (repository, traps) = hostile::duplicates("/tmp/escape");
    for trap in traps {
        let names = git::line(&mut repository.git(["ls-tree", "--name-only", &trap.branch]));
        assert_eq!(names, "a\na", "{}", trap.what);
    }
    let (repository, traps) = hostile::modes();
    for trap in traps {
        let tree = git::output(&mut repository.git(["cat-file", "tree", &format!("{}^{{tree}}", trap.branch)]));
        let mode = trap.branch.strip_prefix("mode-").unwrap();
        assert!(tree.starts_with(format!("{mode} file\0").as_bytes()), "{}", trap.what);
    }
    let (repository, traps) = hostile::links();
    assert!(traps.iter().all(|trap| repository.list(&trap.branch, ".")[0].mode == "120000"));
}

#[test]
fn bombs_are_small_on_disk() {
    let size = |repository: &Repository| -> u64 {
        let mut packs = repository.git(["repack", "-a", "-d", "--quiet"]);
        git::output(&mut packs);
        let counts = git::line(&mut repository.git(["count-objects", "-v"]));
        counts.lines().find_map(|line| line.strip_prefix("size-pack: ")).unwrap().parse().unwrap()
    };
    let bomb = hostile::bomb(10);
    assert_eq!(git::line(&mut bomb.git(["rev-list", "--objects", "--all"])).lines().count(), 12);
    assert!(size(&bomb) < 8);
    let huge = hostile::huge_blob(64 << 20);
    assert_eq!(huge.list("main", ".")[0].size, 64 << 20);
    assert!(size(&huge) < 128);
    assert_eq!(hostile::wide(1000).list("main", ".").len(), 1000);
    let depth = |listing: &[u8]| listing.iter().filter(|&&byte| byte == b'/').count();
    assert_eq!(depth(&hostile::nested(500).list("main", ".")[0].path), 500);
    assert!(hostile::long_path().list("main", ".")[0].path.len() > 4096);
}
