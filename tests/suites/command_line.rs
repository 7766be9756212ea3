//! The command line as a user sees it: help, completions, exit statuses, JSON, output and hints.

use std::path::Path;

use gitrepo_core::spec::KEYS;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use serde_json::Value;

const COMMANDS: [&str; 10] =
    ["clone", "mount", "unmount", "ls", "resolve", "sweep", "prefetch", "cache", "doctor", "completions"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn help_lists_every_command_and_every_exit_status() {
    let person = Person::new();
    let help = person.run(&["--help"]).assert_success().stdout;
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let own = person.run(&[command, "--help"]).assert_success().stdout;
        assert!(own.contains(&format!("Usage: gitrepo-cli {command}")), "{own}");
    }
    for status in ["0", "64", "66", "69", "70", "73", "75", "77", "130"] {
        assert!(help.contains(&format!("\n  {status} ")), "{status}: {help}");
    }
    let version = person.run(&["--version"]).assert_success().stdout;
    assert!(version.starts_with("gitrepo-cli "), "{version}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    let person = Person::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = person.run(&["completions", shell]).assert_success().stdout;
        assert!(script.contains("gitrepo-cli") && script.contains("subdirectory"), "{shell}");
    }
}

#[test]
fn misuse_is_a_malformed_request_and_shows_the_usage() {
    let person = Person::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["clone"],
        &["clone", "--frobnicate", "https://host.example/a"],
        &["clone", "https://host.example/a", "one", "two"],
        &["mount", "https://host.example/a"],
        // A URL that begins with a dash would be an option (S2).
        &["clone", "-uecho"],
    ] {
        let outcome = person.run(arguments).assert_code(64);
        assert!(outcome.stderr.contains("Usage:"), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
    let outcome = person.run(&["completions", "tcsh"]).assert_code(64);
    assert!(outcome.stderr.contains("possible values"), "{}", outcome.stderr);
    person.assert_nothing_left();
}

#[test]
fn an_empty_value_means_the_same_as_a_missing_one() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let empty = [
        "--revision=",
        "--subdirectory=",
        "--symlinks=",
        "--set=depth=",
        "--set=gitDir=",
        "--timeout=",
        "--set=repository=",
    ];
    let outcome = person
        .clone(&server.url(&repository), &[&empty[..], &["--secret-dir=", "--config="]].concat())
        .assert_success();
    assert_eq!(outcome.stdout, format!("{commit}  tree  1 file\n"));
    person.discard_tree();
    let secret = person.secret(&[("token", ""), ("username", "\n"), ("ssh-privatekey", ""), ("ca.crt", " ")]);
    person.clone(&server.url(&repository), &[&secret]).assert_success();
    assert!(server.requests().iter().all(|request| request.authorization().is_none()));
    person.discard_tree();
    let outcome = person.clone("", &[]).assert_code(64);
    assert!(outcome.stderr.contains("repository is missing"), "{}", outcome.stderr);
}

#[test]
fn names_of_other_tools_get_a_suggestion() {
    let person = Person::new();
    for (name, ours) in [
        ("branch", "revision"),
        ("ref", "revision"),
        ("subPath", "subdirectory"),
        ("dest", "directory"),
        ("url", "repository"),
    ] {
        let outcome = person.clone("https://127.0.0.1/a", &["--set", &format!("{name}=x")]).assert_code(64);
        assert!(outcome.stderr.contains(&format!("did you mean {ours}?")), "{}", outcome.stderr);
    }
    for (name, ours) in
        [("identity", "ssh-privatekey"), ("user", "username"), ("pass", "password"), ("cacert", "ca.crt")]
    {
        let outcome = person.clone("https://127.0.0.1/a", &["--set", &format!("{name}=canary")]).assert_code(64);
        assert!(outcome.stderr.contains(&format!("as the key {ours}")), "{}", outcome.stderr);
        let outcome = person.clone("https://127.0.0.1/a", &[&person.secret(&[(name, "canary")])]).assert_code(64);
        assert!(outcome.stderr.contains(&format!("did you mean {ours:?}?")), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
    }
}

#[test]
fn success_without_a_terminal_prints_only_the_result() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let outcome = person.clone(&server.url(&repository), &[]).assert_success();
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.stdout, format!("{commit}  tree  1 file\n"));
}

#[test]
fn verbose_without_a_terminal_logs_without_colours() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let outcome = person.clone(&server.url(&repository), &["-vv"]).assert_success();
    assert!(outcome.stderr.contains("worker started"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\x1b'), "{}", outcome.stderr);
}

#[test]
fn clone_prints_one_json_object_on_request() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let url = server.url(&fixture.repository);
    let person = Person::new();
    let outcome = person.clone(&url, &["--json", "--revision", "v3"]).assert_success();
    assert_eq!(outcome.stderr, "");
    let cloned: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let listing = fixture.repository.list(&fixture.commit, ".");
    let links = listing.iter().filter(|listed| listed.mode == "120000").count();
    let files = listing.iter().filter(|listed| listed.mode.starts_with("100")).count();
    assert_eq!(cloned["repository"], url);
    assert_eq!(cloned["revision"], "v3");
    assert_eq!(cloned["reference"], "refs/tags/v3");
    assert_eq!(cloned["commit"], fixture.commit);
    assert_eq!(cloned["directory"], "tree");
    assert_eq!((&cloned["files"], &cloned["symlinks"]), (&files.into(), &links.into()));
    assert!(cloned["receivedBytes"].as_u64().unwrap() > u64::try_from(fixtures::LARGE).unwrap());
}

#[test]
fn every_kind_of_failure_has_its_exit_status_and_is_one_json_object() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder()
        .serve(&repository)
        .answer(|request| if request.path.starts_with("/forbidden") { Answer::status(403) } else { Answer::Git })
        .start();
    let gate = server.hold(|request| request.path.starts_with("/slow"));
    let closed = ClosedPort::reserve();
    let person = Person::new();
    let small = server.url(&repository);
    let tiny = person.configuration(r#"{"limits": {"entries": 1, "treeBytes": 1}}"#);
    std::fs::write(person.home().join("occupied"), "").unwrap();
    for (arguments, kind, code) in [
        (&["https:/slash", "tree"][..], "invalidRequest", 64),
        (&[&*small, "occupied"], "failedPrecondition", 64),
        (&[&*small, "tree", "--revision", "missing"], "notFound", 66),
        (&[&server.url_at("missing.git"), "tree"], "notFound", 66),
        (&[&closed.url("http"), "tree"], "unavailable", 69),
        (&[&*small, "tree", &tiny], "resourceExhausted", 73),
        (&[&server.url_at("slow.git"), "tree", "--timeout", "1s"], "timeout", 75),
        (&[&server.url_at("forbidden.git"), "tree"], "permissionDenied", 77),
    ] {
        let outcome = person.run(&[&["clone", "--json"], arguments].concat()).assert_code(code);
        assert_eq!(outcome.stderr, "", "{arguments:?}");
        let printed: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.stdout));
        assert_eq!(printed["error"]["kind"], kind, "{arguments:?}: {printed}");
        assert!(!printed["error"]["message"].as_str().unwrap().is_empty());

        let outcome = person.run(&[&["clone"], arguments].concat()).assert_code(code);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    }
    gate.open();
    assert_eq!(person.belongings().into_iter().collect::<Vec<_>>(), ["occupied"]);
}

#[test]
fn failure_says_what_to_do_next() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let url = server.url(&repository);
    for (arguments, hint) in [
        (&["clone", &url, "tree", "--revision", "missing"][..], "check the URL, the revision"),
        (&["resolve", "ssh://git@127.0.0.1:1/a"], "check the URL"),
        (&["unmount", "not-mounted", "--store=store"], "gitrepo-cli mount"),
    ] {
        let outcome = person.run(arguments);
        assert!(!outcome.status.success());
        assert!(outcome.stderr.contains("hint: ") && outcome.stderr.contains(hint), "{}", outcome.stderr);
    }
}

#[test]
fn unknown_key_suggests_the_most_similar_one() {
    let person = Person::new();
    for (setting, nearest) in [("revison=main", "revision"), ("sub-directory=a", "subdirectory"), ("Depth=1", "depth")]
    {
        let outcome = person.clone("https://host.example/a", &["--set", setting]).assert_code(64);
        assert!(outcome.stderr.contains(&format!("did you mean {nearest}?")), "{}", outcome.stderr);
    }
    let outcome = person.clone("https://host.example/a", &["--set", "revision"]).assert_code(64);
    assert!(outcome.stderr.contains("KEY=VALUE"), "{}", outcome.stderr);
    let twice = person.clone("https://host.example/a", &["--revision", "a", "--set", "revision=b"]).assert_code(64);
    assert!(twice.stderr.contains("given twice"), "{}", twice.stderr);
    person.assert_nothing_left();
}

#[test]
fn keys_that_do_not_work_yet_are_refused_and_never_ignored() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let outcome = person.clone(&server.url(&repository), &["--set", "refresh=30s"]).assert_code(64);
    for word in ["refresh", "30s", "yet"] {
        assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
    }
    assert!(server.requests().is_empty());
    person.assert_nothing_left();
}

#[test]
fn invalid_groups_and_ways_to_write_are_refused() {
    let person = Person::new();
    let mount = ["mount", "https://host.example/a", "target"];
    for group in ["users", "-1", "4294967296"] {
        let outcome = person.run(&[&mount[..], &[&format!("--group={group}")]].concat()).assert_code(64);
        assert!(outcome.stderr.contains("--group takes the number of a group"), "{}", outcome.stderr);
    }
    for how in ["layer", "true", " "] {
        let writable = format!("--writable={how}");
        let outcome = person.run(&[&mount[..], &[&writable]].concat()).assert_code(64);
        assert!(outcome.stderr.contains("private, shared, copy"), "{}", outcome.stderr);
    }
    person.assert_nothing_left();
}

#[test]
fn unknown_field_of_the_configuration_is_refused_by_name() {
    let person = Person::new();
    for (json, words) in [
        (r#"{"allowedHost": ["*"]}"#, "allowedHost"),
        (r#"{"limits": {"fetchByte": 1}}"#, "fetchByte"),
        (r#"{"limits": {"stall": "0s"}}"#, "limits.stall"),
        ("{", "configuration"),
    ] {
        let configuration = person.configuration(json);
        let outcome = person.clone("https://host.example/a", &[&configuration]).assert_code(64);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    person.assert_nothing_left();
}

#[test]
fn documented_table_of_keys_matches_the_code() {
    let documentation = read("docs/volumes.md");
    let table: Vec<&str> = documentation.lines().skip_while(|line| !line.starts_with("| key ")).collect();
    let rows = table.iter().skip(2).take_while(|line| line.starts_with('|'));
    let documented: Vec<String> = rows.map(|row| (*row).to_owned()).collect();
    let coded: Vec<String> = KEYS
        .iter()
        .map(|key| format!("| `{}` | {} | {} | {} |", key.name, key.values, key.default, key.meaning))
        .collect();
    assert_eq!(documented, coded);
}

/// Every `gitrepo-cli` line of the README names a command, and flags that the command has.
#[test]
fn commands_of_the_readme_exist() {
    let person = Person::new();
    let readme = read("README.md");
    let lines: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("gitrepo-cli ")).collect();
    assert!(lines.len() >= 5, "the README shows its commands");
    for line in lines {
        let words = line.split('#').next().unwrap().split_ascii_whitespace();
        let words: Vec<&str> = words.take_while(|word| !["|", ">", "&&"].contains(word)).collect();
        assert!(COMMANDS.contains(&words[0]), "{line}");
        let help = person.run(&[words[0], "--help"]).assert_success().stdout;
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag} of {line}");
        }
    }
}

#[test]
fn closed_pipe_on_stdout_is_not_an_error() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(Request::is_info_refs);
    let person = Person::new();
    let mut command = person.program().command(["resolve", &server.url(&repository)]);
    let mut child = command.spawn().unwrap();
    gate.wait_for(1);
    drop(child.stdout.take());
    gate.open();
    let outcome = child.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
}
