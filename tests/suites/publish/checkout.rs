//! `checkout: git`, in every form of a volume.

use std::path::Path;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::spec::Checkout;
use gitrepo_core::spec::GitDir;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::spec::Submodules;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::git;
use gitrepo_tests::working_repository::let_in;
use gitrepo_tests::working_repository::line;

use super::Bench;
use super::git_dir::keeping;

fn converted(request: VolumeRequest) -> VolumeRequest {
    with(request, |request| request.spec.tree.checkout = Checkout::Git)
}

fn read(bench: &Bench, target: &Path, name: &str) -> String {
    std::fs::read_to_string(bench.node.shown(target).join(name)).unwrap()
}

pub(super) fn what_an_option_refuses_stays_for_volumes_without_it(bench: &Bench) {
    let text = "0123456789abcde\n".repeat(18 << 16);
    let files = Files::new().file(".gitattributes", "big working-tree-encoding=UTF-32\n").file("big", text);
    let commit = bench.repository.commit("main", &files);
    let request = |pod: &str| at(read_only(&bench.url(), &bench.node.target(pod)), &commit);
    let refused = bench.node.publish(&converted(request("refused"))).unwrap_err();
    assert!(chain(&refused).contains("bytes of a file that is converted"), "{}", chain(&refused));
    let packs = bench.server.packs();
    let bytes = request("bytes");
    bench.node.publish(&bytes).unwrap();
    assert_eq!(bench.server.packs(), packs);
    bench.assert_shows(&bytes.target, &commit);
    bench.node.unpublish(&bytes);
}

pub(super) fn options_that_do_not_go_together_are_refused_before_anything_is_asked(bench: &Bench) {
    let request = |pod: &str| {
        with(read_only(&bench.url(), &bench.node.target(pod)), |request| request.spec.git_dir = GitDir::Keep)
    };
    let sub = RelativePath::parse("src").unwrap();
    let before = bench.server.requests().len();
    for request in [
        with(request("part"), |request| request.spec.tree.subdirectory = sub.clone()),
        with(request("submodules"), |request| request.spec.tree.submodules = Submodules::Recursive),
    ] {
        let refused = bench.node.publish(&request).unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidRequest, "{}", chain(&refused));
    }
    assert_eq!(bench.server.requests().len(), before);
}

pub(super) fn converted_files_are_clean_beside_a_git_directory(bench: &Bench) {
    let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n*.c ident\n").file("run.bat", "one\ntwo\n");
    let files = files.file("src/a.c", "$Id$\n").executable("src/b.bat", "x\n").symlink("src/link.bat", "b.bat");
    let commit = bench.repository.commit("main", &files);
    let read_only = read_only(&bench.url(), &bench.node.target("read-only"));
    let writable = writable(&bench.url(), &bench.node.target("writable"), 0);
    let again = with(read_only.clone(), |request| request.target = bench.node.target("again"));
    for (request, is_known) in [(read_only, false), (writable, false), (again, true)] {
        let request = converted(keeping(request, 1));
        let published = bench.node.publish(&request).unwrap();
        assert!(!is_known || published.outcome == Outcome::Hit);
        let tree = bench.node.shown(&request.target);
        assert_eq!(read(bench, &request.target, "run.bat"), "one\r\ntwo\r\n");
        assert_eq!(read(bench, &request.target, "src/b.bat"), "x\r\n");
        assert_clean(&tree);
        assert_whole(&tree, &bench.repository, &commit, 1);
        assert_eq!(line(&tree, &["diff-index", "--cached", "HEAD"]), "");
    }
}

#[test]
fn converted_files_are_clean_whoever_owns_them_and_are_verified() {
    let Some(shell) = Shell::new_with(64 << 20, Format::Image) else { return };
    let repository = Repository::new("converted");
    let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n").file("run.bat", "one\ntwo\n");
    let commit = repository.commit("main", &files);
    let server = HttpServer::start(&repository);
    for owner in [&[][..], &["--uid=1000", "--group=2000"], &["--writable=copy"]] {
        let target = shell.target(&format!("pod-{}", owner.len()));
        let options = [&["--checkout=git", "--git-dir=keep"], owner].concat();
        shell.mount(&server.url(&repository), &target, &options).assert_success();
        let_in(&target.join(".git"));
        assert_eq!(std::fs::read_to_string(target.join("run.bat")).unwrap(), "one\r\ntwo\r\n");
        assert_clean(&target);
        assert_whole(&target, &repository, &commit, 1);
        shell.run(&["cache", "verify"]).assert_success();
        shell.unmount(&target).assert_success();
    }
    assert_eq!(server.packs(), 1);
}

/// git converts back whatever it reads.
pub(super) fn a_changed_file_is_committed_as_git_converts_it_back(bench: &Bench) {
    if !require::root("gives a volume to another user") {
        return;
    }
    let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n").file("run.bat", "one\ntwo\n");
    bench.repository.commit("main", &files);
    let request = converted(keeping(writable(&bench.url(), &bench.node.target("pod"), 1000), 1));
    bench.node.publish(&request).unwrap();
    let tree = bench.node.shown(&request.target);
    let_in(&tree.join(".git"));
    let path = tree.join("run.bat");
    std::fs::write(&path, "one\r\ntwo\r\n").unwrap();
    assert_eq!(line(&tree, &["status", "--porcelain"]), "", "it only looks changed");
    std::fs::write(&path, "one\r\ntwo\r\nthree\r\n").unwrap();
    gitrepo_tests::git::output(&mut git(&tree, &["commit", "--all", "--quiet", "--message=ours"]));
    assert_eq!(line(&tree, &["cat-file", "-s", "HEAD:run.bat"]), "14");
    assert_eq!(line(&tree, &["status", "--porcelain"]), "");
}

pub(super) fn files_are_converted_as_git_checkout_does_if_asked(bench: &Bench) {
    let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n/src/** ident\n").file("run.bat", "one\ntwo\n");
    let commit = bench.repository.commit("main", &files.file("src/a.c", "$Id$\n").file("src/b.bat", "x\n"));
    let request = |pod: &str| at(read_only(&bench.url(), &bench.node.target(pod)), &commit);
    let bytes = request("bytes");
    bench.node.publish(&bytes).unwrap();
    bench.assert_shows(&bytes.target, &commit);

    // The store has the commit: nothing is fetched.
    let packs = bench.server.packs();
    let first = converted(request("first"));
    bench.node.publish(&first).unwrap();
    let id = bench.repository.resolve("main:src/a.c");
    let assert_converted = |target: &Path| {
        assert_eq!(read(bench, target, "run.bat"), "one\r\ntwo\r\n");
        assert_eq!(read(bench, target, "src/a.c"), format!("$Id: {id} $\n"));
        assert_eq!(read(bench, target, "src/b.bat"), "x\r\n");
        assert_eq!(read(bench, target, "README.md"), "# Second\n");
    };
    assert_converted(&first.target);
    let again = converted(request("again"));
    assert_eq!(bench.node.publish(&again).unwrap().outcome, Outcome::Hit);
    let copy = converted(at(writable(&bench.url(), &bench.node.target("copy"), 0), &commit));
    bench.node.publish(&copy).unwrap();
    assert_converted(&copy.target);
    // The attributes above the directory count.
    let part = with(converted(request("part")), |request| {
        request.spec.tree.subdirectory = RelativePath::parse("src").unwrap();
    });
    bench.node.publish(&part).unwrap();
    assert_eq!(read(bench, &part.target, "a.c"), format!("$Id: {id} $\n"));
    assert_eq!(read(bench, &part.target, "b.bat"), "x\r\n");
    assert_eq!(bench.server.packs(), packs);
    bench.assert_shows(&bytes.target, &commit);

    // A later commit builds on what is there.
    let later = bench.repository.commit("main", &Files::new().file("new.bat", "y\n"));
    let later = converted(at(read_only(&bench.url(), &bench.node.target("later")), &later));
    assert!(matches!(bench.node.publish(&later).unwrap().outcome, Outcome::Fetched { .. }));
    assert_converted(&later.target);
    assert_eq!(read(bench, &later.target, "new.bat"), "y\r\n");
    for request in [&bytes, &first, &again, &copy, &part, &later] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}
