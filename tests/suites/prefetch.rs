//! `gitrepo-cli prefetch`.

use std::fs;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::shell::Shell;
use serde_json::Value;

const TOKEN: &str = "canary-token-9Cli";

#[test]
fn a_prefetched_tree_is_mounted_without_a_fetch_by_whoever_may_read_it() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, commit) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).accept(Credential::Bearer(TOKEN)).start();
    let url = server.url(&repository);
    let secret = shell.home().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("token"), TOKEN).unwrap();
    let secret = format!("--secret-dir={}", secret.display());
    shell.configure(r#"{"credentialsOverHttp": true, "cache": {"reserveBytes": "0"}}"#);

    shell.run(&["prefetch", &url, "--json"]).assert_code(77);
    for outcome in ["fetched", "hit"] {
        let prefetched = shell.run(&["prefetch", &url, &secret, "--json"]).assert_success();
        let prefetched: Value = serde_json::from_str(&prefetched.stdout).unwrap();
        assert_eq!((&prefetched["commit"], &prefetched["outcome"]), (&commit.as_str().into(), &outcome.into()));
    }
    assert_eq!(server.packs(), 1);
    // It is in the store, and no proof of access for others.
    shell.mount(&url, &shell.target("other"), &[]).assert_code(77);
    shell.mount(&url, &shell.target("pod"), &[&secret]).assert_success();
    assert_eq!(server.packs(), 1);
    shell.unmount(&shell.target("pod")).assert_success();
    assert_eq!(shell.leftovers(), Vec::<std::path::PathBuf>::new());
}
