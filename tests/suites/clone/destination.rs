//! Where a clone may write, and which files it leaves alone.

use std::os::unix::fs::symlink;

use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::volumes::files_below;

use super::assert_tree;

struct Bench {
    repository: Repository,
    commit: String,
    server: HttpServer,
    person: Person,
}

impl Bench {
    fn new() -> Self {
        let (repository, commit) = fixtures::small();
        let server = HttpServer::start(&repository);
        Self { repository, commit, server, person: Person::new() }
    }

    fn clone_to(&self, destination: &str) -> gitrepo_tests::program::Outcome {
        self.person.run(&["clone", &self.server.url(&self.repository), destination])
    }

    fn assert_arrives(&self, destination: &str, at: &str) {
        self.clone_to(destination).assert_success();
        assert_tree(&self.person.home().join(at), &self.repository, &self.commit);
    }

    fn assert_occupied(&self, destination: &str) {
        let before = self.person.belongings();
        let refused = self.clone_to(destination).assert_code(64);
        assert!(refused.stderr.contains("exists and is not an empty directory"), "{}", refused.stderr);
        assert_eq!(self.person.belongings(), before);
        assert!(self.server.requests().is_empty(), "nothing is fetched");
    }
}

#[test]
fn clone_without_destination_is_named_after_the_repository() {
    let bench = Bench::new();
    bench.person.run(&["clone", &bench.server.url(&bench.repository)]).assert_success();
    assert_tree(&bench.person.home().join("small"), &bench.repository, &bench.commit);
}

#[test]
fn clone_makes_missing_parents() {
    let bench = Bench::new();
    bench.assert_arrives("a/b/tree", "a/b/tree");
    assert_eq!(std::fs::read_dir(bench.person.home().join("a/b")).unwrap().count(), 1);
}

#[test]
fn failed_clone_leaves_no_parents() {
    let bench = Bench::new();
    bench.person.run(&["clone", &bench.server.url_at("missing.git"), "a/b/tree"]).assert_code(66);
    bench.person.assert_nothing_left();
}

#[test]
fn clone_fills_an_empty_directory() {
    let bench = Bench::new();
    std::fs::create_dir(bench.person.tree()).unwrap();
    bench.assert_arrives("tree", "tree");
    bench.person.assert_tree_alone();
}

#[test]
fn failed_clone_leaves_an_empty_directory_as_it_was() {
    let bench = Bench::new();
    std::fs::create_dir(bench.person.tree()).unwrap();
    bench.person.run(&["clone", &bench.server.url_at("missing.git"), "tree"]).assert_code(66);
    bench.person.assert_tree_alone();
    assert_eq!(std::fs::read_dir(bench.person.tree()).unwrap().count(), 0);
}

#[test]
fn clone_fills_the_working_directory() {
    let bench = Bench::new();
    bench.assert_arrives(".", ".");
}

#[test]
fn clone_follows_a_link_to_an_empty_directory() {
    let bench = Bench::new();
    std::fs::create_dir(bench.person.home().join("elsewhere")).unwrap();
    symlink("elsewhere", bench.person.tree()).unwrap();
    bench.assert_arrives("tree", "elsewhere");
    assert!(bench.person.tree().is_symlink(), "the user's link stays");
}

#[test]
fn clone_accepts_an_absolute_destination_and_a_trailing_slash() {
    let bench = Bench::new();
    let absolute = bench.person.home().join("absolute");
    bench.assert_arrives(absolute.to_str().unwrap(), "absolute");
    bench.assert_arrives("slash/", "slash");
}

#[test]
fn clone_accepts_a_destination_with_the_longest_possible_name() {
    let bench = Bench::new();
    let longest = "n".repeat(255);
    bench.assert_arrives(&longest, &longest);
}

#[test]
fn clone_refuses_a_directory_that_is_not_empty() {
    let bench = Bench::new();
    std::fs::create_dir(bench.person.tree()).unwrap();
    std::fs::write(bench.person.tree().join(".hidden"), "precious\n").unwrap();
    bench.assert_occupied("tree");
    bench.assert_occupied(".");
    assert_eq!(std::fs::read(bench.person.tree().join(".hidden")).unwrap(), b"precious\n");
}

#[test]
fn clone_replaces_no_file_and_no_dangling_link() {
    let bench = Bench::new();
    std::fs::write(bench.person.tree(), "precious\n").unwrap();
    bench.assert_occupied("tree");
    assert_eq!(std::fs::read(bench.person.tree()).unwrap(), b"precious\n");

    symlink("nowhere", bench.person.home().join("dangling")).unwrap();
    bench.assert_occupied("dangling");
    assert!(bench.person.home().join("dangling").is_symlink());
}

#[test]
fn clone_below_a_file_or_to_the_root_is_refused() {
    let bench = Bench::new();
    std::fs::write(bench.person.home().join("file"), "").unwrap();
    for destination in ["file/tree", "/", "/dev/null", "/proc/tree", ""] {
        let refused = bench.clone_to(destination);
        assert!([64, 70].contains(&refused.code()), "{destination}: {refused:?}");
        assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    }
    assert!(bench.server.requests().is_empty());
}

#[test]
fn of_two_clones_to_one_destination_one_succeeds_and_the_other_is_refused() {
    let bench = Bench::new();
    let gate = bench.server.hold(gitrepo_tests::http::Request::is_upload_pack);
    let url = bench.server.url(&bench.repository);
    let both = [(), ()].map(|()| bench.person.spawn_clone(&url, &[]));
    gate.wait_for(2);
    gate.open();
    let mut codes = both.map(|running| running.wait().code());
    codes.sort_unstable();
    assert_eq!(codes, [0, 64]);
    assert_tree(&bench.person.tree(), &bench.repository, &bench.commit);
    bench.person.assert_tree_alone();
}

#[test]
fn clone_arrives_where_the_kernel_says_and_keeps_only_parents_on_the_way() {
    let bench = Bench::new();
    let name = bench.person.home().file_name().unwrap().to_str().unwrap().to_owned();
    let around = format!("../{name}/around");
    for (destination, at) in [
        ("new/../beside", "beside"),
        ("./x/./y", "x/y"),
        ("p//q", "p/q"),
        ("r/s/../t/../u", "r/u"),
        (&around, "around"),
    ] {
        bench.assert_arrives(destination, at);
    }
    let kept = ["around", "beside", "p", "r", "x"].map(str::to_owned);
    assert_eq!(bench.person.belongings(), kept.into(), "of new/../beside, only beside");
    assert_eq!(std::fs::read_dir(bench.person.home().join("r")).unwrap().count(), 1);
    // One that was there stays, and so does what follows a link.
    std::fs::create_dir(bench.person.home().join("old")).unwrap();
    bench.assert_arrives("old/../other", "other");
    symlink("r/u", bench.person.home().join("link")).unwrap();
    bench.assert_arrives("link/../behind", "r/behind");
    assert!(bench.person.home().join("old").exists());
}

#[test]
fn clone_below_another_repository_changes_nothing_of_it() {
    let bench = Bench::new();
    let mine = bench.person.home().join("mine");
    git::output(git::command(bench.person.home()).args(["init", "--quiet", "mine"]));
    git::output(git::command(&mine).args(["commit", "--allow-empty", "--quiet", "--message=mine"]));
    let content = || {
        let files = files_below(&mine.join(".git")).into_iter();
        files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect::<Vec<_>>()
    };
    let before = content();
    let url = bench.server.url(&bench.repository);
    for (destination, more) in [("mine/vendor/plain", &[][..]), ("mine/vendor/kept", &["--git-dir=keep"])] {
        bench.person.run(&[&["clone", &url, destination], more].concat()).assert_success();
    }
    assert_tree(&mine.join("vendor/plain"), &bench.repository, &bench.commit);
    assert_eq!(content(), before);
    let head = |tree: &str| git::line(git::command(&mine.join(tree)).args(["rev-parse", "HEAD"]));
    assert_eq!((head("vendor/kept"), head("vendor/plain")), (bench.commit, head(".")));
    let status = git::line(git::command(&mine).args(["status", "--porcelain"]));
    assert_eq!(status, "?? vendor/");
}
