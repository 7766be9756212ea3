//! `gitrepo-cli doctor`.

use gitrepo_tests::fixtures;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::shell::Shell;
use serde_json::Value;

const TOKEN: &str = "canary-token-6Doc";

/// The checks of a report, by name.
fn checks(stdout: &str) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(stdout).unwrap_or_else(|_| panic!("{stdout}"));
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let all = report["checks"].as_array().unwrap();
    all.iter().map(|check| (text(check, "name"), text(check, "status"), text(check, "detail"))).collect()
}

fn status<'a>(checks: &'a [(String, String, String)], name: &str) -> &'a str {
    checks.iter().find(|check| check.0 == name).map_or("none", |check| &check.1)
}

#[test]
fn a_node_with_a_store_and_a_good_repository_has_no_failure() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let kubelet = format!("--kubelet-dir={}", shell.home().join("missing").display());
    let without = checks(&shell.run(&["doctor", "--json", &kubelet]).assert_success().stdout);
    assert_eq!(status(&without, "store"), "warn", "{without:?}");
    assert!(!shell.store().exists(), "it creates no store");

    shell.mount(&url, &shell.target("pod"), &[]).assert_success();
    let outcome = shell.run(&["doctor", &url, "--json", &kubelet]).assert_success();
    let found = checks(&outcome.stdout);
    let names = ["kernel", "user", "store", "store writable", "store locks", "store content", "records", "confinement"];
    for name in names.into_iter().chain(["writable volumes"]) {
        assert_eq!(status(&found, name), "ok", "{name}: {found:?}");
    }
    for name in ["policy", "name", "address", "TCP", "session", "login", "repository", "revision", "fetch"] {
        assert_eq!(status(&found, name), "ok", "{name}: {found:?}");
    }
    assert!(found.iter().any(|check| check.0 == "revision" && check.2.contains(&commit)), "{found:?}");
    let text = shell.run(&["doctor", &url, &kubelet]).assert_success().stdout;
    assert!(text.contains("ok    kernel: Linux ") && text.contains("\n      advice: "), "{text}");
    shell.unmount(&shell.target("pod")).assert_success();
}

#[test]
fn damage_and_a_bad_version_of_the_store_are_named() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let kubelet = format!("--kubelet-dir={}", shell.home().join("missing").display());
    shell.mount(&server.url(&repository), &shell.target("pod"), &[]).assert_success();
    shell.unmount(&shell.target("pod")).assert_success();
    let snapshot = gitrepo_tests::volumes::entries(&shell.store().join("snapshots")).remove(0);
    std::fs::write(snapshot.join("meta.json"), "{").unwrap();
    let found = checks(&shell.run(&["doctor", "--json", &kubelet]).assert_success().stdout);
    assert_eq!(status(&found, "store content"), "warn", "{found:?}");
    std::fs::write(shell.store().join("VERSION"), "99\n").unwrap();
    let found = checks(&shell.run(&["doctor", "--json", &kubelet]).assert_code(64).stdout);
    assert_eq!(status(&found, "store"), "fail", "{found:?}");
}

/// Runs the doctor for a URL as somebody without a store; returns the last check and the others.
fn examine(person: &Person, arguments: &[&str], code: i32) -> (Vec<(String, String, String)>, String) {
    let store = format!("--store={}", person.scratch().join("no-store").display());
    let kubelet = format!("--kubelet-dir={}", person.scratch().join("missing").display());
    let all = [&["doctor", "--json", &store, &kubelet], arguments].concat();
    let outcome = person.run(&all).assert_code(code);
    let found = checks(&outcome.stdout);
    let last = found.last().unwrap().0.clone();
    (found, last)
}

#[test]
fn the_first_failing_step_is_the_last_one_and_decides_the_exit_status() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder()
        .serve(&repository)
        .accept(Credential::Bearer(TOKEN))
        .answer(|request| if request.path.starts_with("/missing") { Answer::status(404) } else { Answer::Git })
        .start();
    let open = HttpServer::start(&repository);
    let closed = ClosedPort::reserve();
    let person = Person::new();
    let denied = person.configuration(r#"{"deniedHosts": ["127.*"]}"#);
    let (url, good) = (server.url(&repository), open.url(&repository));
    for (arguments, step, code) in [
        (&["https:/slash"][..], "URL", 64),
        (&["ext::sh"], "URL", 64),
        (&[&*good, &denied], "policy", 77),
        (&[&closed.url("http")], "TCP", 69),
        (&[&*url], "login", 77),
        (&[&open.url_at("missing.git")], "repository", 66),
        (&[&*good, "--revision=missing"], "revision", 66),
    ] {
        let (found, last) = examine(&person, arguments, code);
        assert_eq!((last.as_str(), status(&found, step)), (step, "fail"), "{arguments:?}: {found:?}");
        let failures = found.iter().filter(|check| check.1 == "fail").count();
        assert_eq!(failures, 1, "{arguments:?}: {found:?}");
    }
    let (found, last) = examine(&person, &[&good], 0);
    assert_eq!((last.as_str(), status(&found, "fetch")), ("fetch", "ok"), "{found:?}");
    assert!(std::fs::read_dir(person.scratch()).unwrap().next().is_none(), "the temporary directory is gone");
}

#[test]
fn a_server_that_hangs_costs_one_step_its_time() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(Request::is_info_refs);
    let person = Person::new();
    let (found, last) = examine(&person, &[&server.url(&repository), "--timeout=2s"], 75);
    assert_eq!((last.as_str(), status(&found, "TCP")), ("session", "ok"), "{found:?}");
    gate.open();
}
