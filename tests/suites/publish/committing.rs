//! What people do in a writable volume with `.git`: git's own commands, by the owner and by others of its group.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use gitrepo_core::spec::Submodules;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use gitrepo_tests::working_repository;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::let_in;
use gitrepo_tests::working_repository::line;

use super::Bench;
use super::git_dir::keeping;
use super::git_dir::with_history;

/// Two users of one group, and somebody else.
const OWNER: (u32, u32) = (1000, 2000);
const MEMBER: (u32, u32) = (1001, 2000);
const STRANGER: (u32, u32) = (1002, 1002);

/// `git` as this user, who says that the repository is safe.
fn trusting(tree: &Path, (uid, gid): (u32, u32), arguments: &[&str]) -> Command {
    let mut command = git::command(tree);
    command.args(["-c", "safe.directory=*"]).args(arguments).uid(uid).gid(gid);
    command
}

/// A commit of `README.md` as this user.
fn commits(tree: &Path, user: (u32, u32), message: &str) -> Output {
    fs::write(tree.join("README.md"), message).unwrap();
    trusting(tree, user, &["commit", "--all", "--quiet", "--message", message]).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whatever shows a volume for writers.
pub(super) fn members_of_a_group_commit_in_turn_and_others_are_told_why_not(bench: &Bench) {
    let target = |pod: &str| bench.node.target(pod);
    let of = |request: VolumeRequest, uid: u32, group: Option<u32>| {
        let request = with(request, |request| {
            request.spec.uid = uid;
            request.group = group;
        });
        keeping(request, 0)
    };
    let group = Some(OWNER.1);
    for request in [
        of(private(&bench.url(), &target("private"), 0), OWNER.0, group),
        of(shared(&bench.url(), "a volume", &target("shared")), OWNER.0, group),
        of(writable(&bench.url(), &target("copy"), 0), OWNER.0, group),
        of(private(&bench.url(), &target("root"), 0), 0, group),
        of(private(&bench.url(), &target("alone"), 0), OWNER.0, None),
    ] {
        let expected = if request.target == target("copy") { Format::Copy } else { Format::Overlay };
        assert_eq!(bench.node.publish(&request).unwrap().format, expected);
        let tree = &request.target;
        let_in(&tree.join(".git"));
        assert_clean(tree);
        assert_whole(tree, &bench.repository, &bench.commit, 0);
        let is_shared = git::output(&mut working_repository::git(tree, &["config", "--list", "--local"]));
        assert_eq!(git::text(is_shared).contains("core.sharedrepository=group"), request.group.is_some());

        let gid = request.group.unwrap_or(OWNER.0);
        let untrusting = git::command(tree).args(["status"]).uid(MEMBER.0).gid(gid).output().unwrap();
        assert!(errors(&untrusting).contains("dubious ownership"), "{}", errors(&untrusting));
        assert!(trusting(tree, (MEMBER.0, gid), &["log", "-1"]).status().unwrap().success());
        // The owner, a member, and the owner again: refs, objects, reflogs, the index and messages change hands.
        let users = [(request.spec.uid, gid), (MEMBER.0, gid), (request.spec.uid, gid), (MEMBER.0, gid)];
        let users = if request.group.is_some() { &users[..] } else { &users[..1] };
        for (number, user) in users.iter().enumerate() {
            let committed = commits(tree, *user, &format!("commit {number}"));
            assert!(committed.status.success(), "{user:?}, {:?}: {}", request.target, errors(&committed));
        }
        assert_eq!(line(tree, &["rev-parse", &format!("HEAD~{}", users.len())]), bench.commit);
        assert!(!commits(tree, STRANGER, "never").status.success());
        if request.group.is_some() {
            for work in
                [&["fetch", "--quiet"][..], &["gc", "--quiet", "--prune=now"], &["commit", "--amend", "--no-edit"]]
            {
                for user in [OWNER, MEMBER] {
                    git::output(&mut trusting(tree, user, work));
                }
            }
        } else {
            assert!(!commits(tree, MEMBER, "never").status.success());
        }
        git::output(&mut working_repository::git(tree, &["fsck", "--full"]));

        bench.node.reboot();
        bench.node.publish(&request).unwrap();
        assert_eq!(line(tree, &["log", "-1", "--format=%s"]), format!("commit {}", users.len() - 1));
        bench.node.unpublish(&request);
    }
    // Those who only read get the settings of a new clone, and no commit.
    let request = of(read_only(&bench.url(), &target("reader")), OWNER.0, group);
    bench.node.publish(&request).unwrap();
    let refused =
        working_repository::git(&request.target, &["commit", "--allow-empty", "--message=x"]).output().unwrap();
    assert!(!refused.status.success() && errors(&refused).contains("Read-only file system"), "{}", errors(&refused));
    assert_clean(&request.target);
    assert_whole(&request.target, &bench.repository, &bench.commit, 0);
    let settings = line(&request.target, &["config", "--list", "--local", "--name-only"]);
    assert!(!settings.contains("sharedrepository"), "{settings}");
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn gits_own_commands_work_in_a_writable_volume(bench: &Bench) {
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let uid = if nix::unistd::geteuid().is_root() { 1000 } else { nix::unistd::geteuid().as_raw() };
    let request = private(&server.url(&repository), &bench.node.target("pod"), uid);
    let request = at(keeping(request, 1), "main");
    bench.node.publish(&request).unwrap();
    let tree = bench.node.shown(&request.target);
    let_in(&tree.join(".git"));
    let run = |words: &[&str]| git::output(&mut working_repository::git(&tree, words));
    let names = |arguments: &[&str]| git::text(run(arguments)).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((names(&["tag"]).len(), names(&["branch", "--remotes"])), (0, vec!["  origin/main".to_owned()]));

    // Of a cut history, git fetches the branch, and the tags of commits that are here.
    run(&["fetch", "--quiet"]);
    assert_eq!((names(&["tag"]), names(&["branch", "--remotes"]).len()), (vec!["v2".to_owned()], 1));
    run(&["fetch", "--quiet", "--tags"]);
    assert_eq!(names(&["tag"]), ["v1", "v2"]);

    run(&["sparse-checkout", "set", "--no-cone", "/changes"]);
    let in_the_tree = || {
        let mut names: Vec<_> = entries(&tree).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(in_the_tree(), [".git", "changes"]);
    run(&["sparse-checkout", "disable"]);
    assert_eq!(in_the_tree(), [".git", "changes", "d0", "d1", "d2", "d3"]);
    assert_eq!(line(&tree, &["status", "--porcelain"]), "");
    assert_eq!(
        run(&["archive", "--format=tar", "HEAD"]),
        git::output(&mut repository.git(["archive", "--format=tar", "main"]))
    );
    run(&["worktree", "add", "--quiet", "--detach", "beside", "HEAD"]);
    assert_eq!(fs::read(tree.join("beside/changes")).unwrap(), fs::read(tree.join("changes")).unwrap());
    run(&["worktree", "remove", "beside"]);

    run(&["fetch", "--quiet", "--unshallow"]);
    assert!(!tree.join(".git/shallow").exists());
    let count = git::line(&mut repository.git(["rev-list", "--count", "main"]));
    assert_eq!(line(&tree, &["rev-list", "--count", "HEAD"]), count);
    run(&["fsck", "--full"]);
    // Another branch is fetched by its name.
    run(&["fetch", "--quiet", "origin", "side"]);
    assert_eq!(line(&tree, &["rev-parse", "FETCH_HEAD"]), repository.resolve("side"));
    bench.node.unpublish(&request);
}

pub(super) fn submodules_are_initialised_by_git_itself(bench: &Bench) {
    let [whole, sub] = ["super", "sub"].map(Repository::new);
    let in_sub = sub.commit("main", &Files::new().file("x", "x"));
    let server = HttpServer::builder().serve(&whole).serve(&sub).start();
    let submodule = Submodule { path: "lib/sub", url: "../sub.git", commit: &in_sub };
    whole.commit("main", &with_submodules(Files::new().file("top", "top"), &[submodule]));
    let url = server.url(&whole);
    let request = keeping(writable(&url, &bench.node.target("pod"), nix::unistd::geteuid().as_raw()), 1);
    assert_eq!(request.spec.tree.submodules, Submodules::None);
    bench.node.publish(&request).unwrap();
    let tree = bench.node.shown(&request.target);
    assert_eq!(line(&tree, &["status", "--porcelain"]), "");
    assert_eq!(entries(&tree.join("lib/sub")).len(), 0);
    git::output(&mut working_repository::git(&tree, &["submodule", "--quiet", "update", "--init", "--recursive"]));
    assert_eq!(contents(&tree), cloned_by_git(&url));
    bench.node.unpublish(&request);
}
