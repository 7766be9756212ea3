//! What a repository may put into `.gitmodules` to reach what its reader would not give it.

use gitrepo_core::error::Kind;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;

use super::RECURSIVE;
use super::access::node;
use super::packs_of;

/// Clones a superproject with this `.gitmodules` and a submodule `sub`. Returns the error.
fn refused(gitmodules: &str, code: i32, more: &[&str]) -> String {
    let super_project = Repository::new("super");
    let files = Files::new().file(".gitmodules", gitmodules).submodule("sub", &"5ca1ab1e".repeat(5));
    super_project.commit("main", &files);
    let (server, person) = (HttpServer::start(&super_project), Person::new());
    let outcome = person.clone(&server.url(&super_project), &[&[RECURSIVE], more].concat()).assert_code(code);
    person.assert_nothing_left();
    outcome.stderr
}

fn section(url: &str) -> String {
    format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n")
}

#[test]
fn s3_a_url_that_git_would_not_fetch_from_is_refused_and_nothing_is_run() {
    let canary = tempfile::tempdir().unwrap();
    let touch = format!("touch {}", canary.path().join("ran").display());
    for (url, words) in [
        (format!("\"ext::sh -c '{touch}'\""), "URL that is refused"),
        ("ext::sh%20-c".to_owned(), "remote helpers"),
        (format!("-u{touch}"), "begins with -"),
        ("fd::3".to_owned(), "remote helpers"),
        ("/etc".to_owned(), "local path"),
        ("file:///etc".to_owned(), "repository of this machine"),
        ("../../../evil.example/x".to_owned(), "more ../"),
        ("https://user:pass@host.example/x".to_owned(), "password"),
        ("\"ssh://-oProxyCommand=x/y\"".to_owned(), "URL that is refused"),
        ("\"https://host.example/a\\tb\"".to_owned(), "control character"),
        ("gopher://host.example/x".to_owned(), "is not known"),
    ] {
        let stderr = refused(&section(&url), 65, &[]);
        assert!(stderr.contains("submodule \"sub\"") && stderr.contains(words), "{url}: {stderr}");
        assert!(!stderr.contains("pass@"), "{stderr}");
    }
    assert_eq!(canary.path().read_dir().unwrap().count(), 0);
}

#[test]
fn s3_a_list_that_git_would_refuse_is_refused_by_name() {
    let sub = section("https://host.example/x");
    for (text, words) in [
        (String::new(), "\"sub\""),
        (sub.replace("= sub", "= \"sub\r\""), "control character"),
        (sub.replace("= sub", "= ../sub"), "another directory"),
        (sub.replace("\"sub\"", "\"../../x\""), "its name has .."),
        (format!("{sub}\tupdate = !touch /x\n"), "never run"),
        (format!("{sub}{}", sub.replace("\"sub\"", "\"other\"")), "same path"),
    ] {
        let stderr = refused(&text, 65, &[]);
        assert!(stderr.contains("submodule") && stderr.contains(words), "{text}: {stderr}");
    }
}

#[test]
fn s14_the_policy_counts_for_submodules_too() {
    let person = Person::new();
    let denied = person.configuration(r#"{"deniedHosts": ["localhost"]}"#);
    let stderr = refused(&section("http://localhost:1/x"), 77, &[&denied]);
    assert!(stderr.contains("submodule \"sub\"") && stderr.contains("localhost"), "{stderr}");
    let web = person.configuration(r#"{"allowedSchemes": ["http"]}"#);
    let stderr = refused(&section("ssh://git@127.0.0.1/x"), 77, &[&web]);
    assert!(stderr.contains("submodule \"sub\""), "{stderr}");
    let stderr = refused(&section("http://169.254.169.254/latest"), 77, &[]);
    assert!(stderr.contains("submodule \"sub\""), "{stderr}");
}

/// A chain of repositories, each with `width` submodules that are all the next one.
fn chain(length: usize, width: usize) -> (HttpServer, String, Vec<Repository>) {
    let repositories: Vec<_> = (0..length).map(|at| Repository::new(&format!("chain-{at}"))).collect();
    let mut server = HttpServer::builder();
    let mut next: Option<(String, String)> = None;
    for repository in repositories.iter().rev() {
        let paths: Vec<_> = (0..width).map(|at| format!("s{at:03}")).collect();
        let submodules: Vec<_> = match &next {
            Some((url, commit)) => paths.iter().map(|path| Submodule { path, url, commit }).collect(),
            None => Vec::new(),
        };
        let commit = repository.commit("main", &with_submodules(Files::new().file("f", "f"), &submodules));
        next = Some((format!("../{}", repository.name()), commit));
        server = server.serve(repository);
    }
    let server = server.start();
    let url = server.url(&repositories[0]);
    (server, url, repositories)
}

#[test]
fn s15_submodules_in_each_other_end_at_a_bound() {
    let (server, url, _repositories) = chain(13, 1);
    let person = Person::new();
    let refused = person.clone(&url, &[RECURSIVE]).assert_code(73);
    assert!(refused.stderr.contains("submodules in each other"), "{}", refused.stderr);
    assert_eq!(packs_of(&server, "chain-12"), 0);
    person.assert_nothing_left();
    let (_server, url, _repositories) = chain(11, 1);
    person.clone(&url, &[RECURSIVE]).assert_success();
    assert!(person.tree().join("s000/".repeat(10)).join("f").exists());
}

#[test]
fn s15_places_are_counted_before_anything_is_written() {
    let (server, url, _repositories) = chain(4, 40);
    let person = Person::new();
    let refused = person.clone(&url, &[RECURSIVE]).assert_code(73);
    assert!(refused.stderr.contains("1000 submodules"), "{}", refused.stderr);
    assert_eq!(packs_of(&server, "chain-3"), 0);
    person.assert_nothing_left();
}

#[test]
fn s15_the_limits_are_those_of_all_submodules_together() {
    let (_server, url, _repositories) = chain(2, 40);
    let person = Person::new();
    let limited = person.configuration(r#"{"limits": {"entries": 60}}"#);
    let refused = person.clone(&url, &[RECURSIVE, &limited]).assert_code(73);
    assert!(refused.stderr.contains("60 entries"), "{}", refused.stderr);
    person.assert_nothing_left();
}

/// A superproject with so many submodules, all different, each with a file of 10,000 bytes.
fn wide(count: usize) -> (HttpServer, String, Vec<Repository>) {
    let names: Vec<_> = (0..count).map(|at| format!("part-{at:02}")).collect();
    let urls: Vec<_> = names.iter().map(|name| format!("../{name}.git")).collect();
    let mut repositories: Vec<_> = names.iter().map(|name| Repository::new(name)).collect();
    let content = |at: usize| Files::new().file("f", format!("{at:02}").repeat(5000));
    let commits: Vec<_> = repositories.iter().enumerate().map(|(at, one)| one.commit("main", &content(at))).collect();
    let submodule = |at: usize| Submodule { path: &names[at], url: &urls[at], commit: &commits[at] };
    let submodules: Vec<_> = (0..count).map(submodule).collect();
    let whole = Repository::new("wide");
    whole.commit("main", &with_submodules(Files::new(), &submodules));
    repositories.push(whole);
    let server = repositories.iter().fold(HttpServer::builder(), |server, one| server.serve(one)).start();
    let url = server.url(&repositories[count]);
    (server, url, repositories)
}

#[test]
fn s15_what_is_fetched_in_one_round_is_counted_before_more_is() {
    let (server, url, _repositories) = wide(12);
    let person = Person::new();
    let limited = person.configuration(r#"{"limits": {"treeBytes": 35000}}"#);
    let refused = person.clone(&url, &[RECURSIVE, &limited]).assert_code(73);
    assert!(refused.stderr.contains("35000 bytes"), "{}", refused.stderr);
    person.assert_nothing_left();
    let place = tempfile::tempdir().unwrap();
    let node = node(&place, |config| config.limits.tree_bytes = 35_000);
    let request = with(read_only(&url, &node.target("pod")), |request| {
        request.spec.tree.submodules = gitrepo_core::spec::Submodules::Recursive;
    });
    let error = node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    assert!(packs_of(&server, "part-00") == 2 && packs_of(&server, "part-11") == 0, "{:?}", server.packs());
    // That is remembered until the limit is raised.
    let asked = server.requests().iter().filter(|request| request.path.starts_with("/part-")).count();
    let again = gitrepo_core::error::chain(&node.publish(&request).unwrap_err());
    assert!(again.contains("35000 bytes") && again.contains("not fetched again"), "{again}");
    assert_eq!(server.requests().iter().filter(|request| request.path.starts_with("/part-")).count(), asked);
    super::access::node(&place, |_| {}).publish(&request).unwrap();
}

#[test]
fn s15_the_targets_of_links_count_for_all_places_together() {
    let [whole, links, last] = ["whole", "links", "last"].map(Repository::new);
    let target = "a/".repeat(2047);
    let many = (0..6000).fold(Files::new(), |files, at| files.symlink(format!("l{at}"), &target));
    let (many, last_one) = (links.commit("main", &many), last.commit("main", &Files::new().file("f", "f")));
    let link = |path| Submodule { path, url: "../links.git", commit: &many };
    let submodules = [link("a"), link("b"), link("c"), Submodule { path: "z", url: "../last.git", commit: &last_one }];
    whole.commit("main", &with_submodules(Files::new(), &submodules));
    let server = HttpServer::builder().serve(&whole).serve(&links).serve(&last).start();
    let person = Person::new();
    let refused = person.clone(&server.url(&whole), &[RECURSIVE]).assert_code(73);
    assert!(refused.stderr.contains("bytes of link targets"), "{}", refused.stderr);
    assert_eq!(["links", "last"].map(|name| packs_of(&server, name)), [1, 0]);
}
