//! `gitrepo-cli clone --submodules recursive`, compared with git.

use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use serde_json::Value;

use super::Family;
use super::RECURSIVE;
use super::packs_of;

#[test]
fn a_clone_equals_gits_with_all_submodules() {
    let family = Family::new();
    let (server, person) = (family.serve(), Person::new());
    let url = server.url(&family.super_project);
    let expected = cloned_by_git(&url);
    assert!(expected.keys().any(|path| path.ends_with("deep/er/lib/vendor/leaf/bin/run")));
    let before = ["super", "middle", "leaf"].map(|name| packs_of(&server, name));
    let cloned = person.clone(&url, &[RECURSIVE, "--json"]).assert_success();
    assert_eq!(contents(&person.tree()), expected);
    // Two commits of one repository are two fetches.
    let after = ["super", "middle", "leaf"].map(|name| packs_of(&server, name));
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [1, 1, 2]);
    let told: Value = serde_json::from_str(&cloned.stdout).unwrap();
    let files = expected.values().filter(|(mode, _)| mode & libc::S_IFMT == libc::S_IFREG).count();
    assert_eq!(told["files"], files);
    person.assert_tree_alone();
}

#[test]
fn without_the_option_submodules_stay_empty_and_nobody_is_asked() {
    let family = Family::new();
    let (server, person) = (family.serve(), Person::new());
    person.clone(&server.url(&family.super_project), &["--submodules=none"]).assert_success();
    assert_eq!(person.tree().join("lib").read_dir().unwrap().count(), 0);
    assert!(server.requests().iter().all(|request| request.path.starts_with("/super.git")));
}

#[test]
fn a_subdirectory_brings_only_the_submodules_below_it() {
    let [super_project, here, elsewhere] = ["super", "here", "elsewhere"].map(Repository::new);
    let inside = here.commit("main", &Files::new().file("x", "x"));
    let outside = elsewhere.commit("main", &Files::new().file("y", "y"));
    let submodules = [
        Submodule { path: "dir/sub", url: "../here.git", commit: &inside },
        Submodule { path: "other", url: "../elsewhere.git", commit: &outside },
    ];
    super_project.commit("main", &with_submodules(Files::new().file("dir/a", "a"), &submodules));
    let server =
        gitrepo_tests::http::HttpServer::builder().serve(&super_project).serve(&here).serve(&elsewhere).start();
    let person = Person::new();
    person.clone(&server.url(&super_project), &[RECURSIVE, "--subdirectory=dir"]).assert_success();
    let found: Vec<_> = contents(&person.tree()).into_keys().map(|path| path.display().to_string()).collect();
    assert_eq!(found, ["a", "sub", "sub/x"]);
    assert_eq!(packs_of(&server, "elsewhere"), 0);
}

#[test]
fn submodules_come_over_ssh_with_the_superprojects_key() {
    if !require::tool("sshd") {
        return;
    }
    let [super_project, sub] = ["super", "sub"].map(Repository::new);
    let commit = sub.commit("main", &Files::new().file("x", "x"));
    let root = sub.root().file_name().unwrap().to_str().unwrap();
    let url = format!("../../{root}/sub.git");
    super_project
        .commit("main", &with_submodules(Files::new(), &[Submodule { path: "sub", url: &url, commit: &commit }]));
    let key = ClientKey::new();
    let (server, person) = (SshServer::start(&key), Person::new());
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    person.clone(&server.url(&super_project), &[RECURSIVE, &secret]).assert_success();
    assert_eq!(std::fs::read(person.tree().join("sub/x")).unwrap(), b"x");
}

#[test]
fn a_commit_that_is_no_tip_is_fetched_from_a_server_that_gives_out_none_by_id() {
    let family = Family::new();
    family.leaf.refuse_commits_by_id();
    let (server, person) = (family.serve(), Person::new());
    person.clone(&server.url(&family.super_project), &[RECURSIVE]).assert_success();
    assert_eq!(std::fs::read(person.tree().join("lib-old/README")).unwrap(), b"old\n");
}

#[test]
fn options_that_cannot_be_combined_are_refused() {
    let person = Person::new();
    let refused = person.clone("https://host.example/a", &[RECURSIVE, "--set=gitDir=keep"]).assert_code(64);
    assert!(refused.stderr.contains("gitDir: keep and submodules: recursive"), "{}", refused.stderr);
}

#[test]
fn submodules_of_a_local_repository_are_local() {
    let [super_project, sub, other] = ["super", "sub", "other"].map(Repository::new);
    let in_sub = sub.commit("main", &Files::new().file("x", "x"));
    let in_other = other.commit("main", &Files::new().file("y", "y"));
    let root = sub.root().file_name().unwrap().to_str().unwrap();
    let submodules = [
        Submodule { path: "sub", url: &format!("../../{root}/sub.git"), commit: &in_sub },
        Submodule { path: "other", url: &format!("file://{}", other.path().display()), commit: &in_other },
    ];
    super_project.commit("main", &with_submodules(Files::new(), &submodules));
    let person = Person::new();
    person.clone(&format!("file://{}", super_project.path().display()), &[RECURSIVE]).assert_success();
    for (path, content) in [("sub/x", "x"), ("other/y", "y")] {
        assert_eq!(std::fs::read_to_string(person.tree().join(path)).unwrap(), content);
    }
    person.assert_tree_alone();
}
