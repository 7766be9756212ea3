//! One configuration file for all frontends: either all of them accept it, or none does.

use std::fs;

use gitrepo_tests::program;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::program::Program;
use tempfile::TempDir;

/// The outcome of every frontend with this configuration file. Each is started only to read it.
fn said_to(text: &str) -> [(&'static str, Outcome); 3] {
    let home = TempDir::new().unwrap();
    let file = home.path().join("config.json");
    fs::write(&file, text).unwrap();
    let config = format!("--config={}", file.display());
    let plugins = format!("--plugin-dir={}", home.path().display());
    [
        // Each then fails: the store, the driver's directory or the node's name is missing.
        ("gitrepo-cli", vec!["ls", &config, "--store=/nonexistent/store"]),
        ("gitrepo-csi", vec![&config, "--node-id="]),
        ("gitrepo-flex-install", vec!["healthy", &config, &plugins]),
    ]
    .map(|(name, arguments)| (name, Program::new(program::executable(name)).run(arguments)))
}

#[test]
fn fields_of_any_frontend_are_accepted_by_all() {
    let text = r#"{
        "allowedHosts": ["git.example.com"], "hostTargetRoots": ["/srv/images"],
        "log": {"level": "warn", "format": "text"}, "flexTimeout": "5m", "flexWritable": "private"
    }"#;
    for (name, outcome) in said_to(text) {
        assert!(
            !outcome.stderr.contains("configuration") && !outcome.stderr.contains("config.json"),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn a_configuration_that_one_frontend_refuses_is_refused_by_all() {
    for (text, words) in [
        (r#"{"allowHosts": []}"#, "unknown field `allowHosts`, did you mean `allowedHosts`?"),
        (r#"{"flexTimout": "5m"}"#, "unknown field `flexTimout`, did you mean `flexTimeout`?"),
        (r#"{"log": {"levl": "warn"}}"#, "unknown field `levl`"),
        (r#"{"log": {"level": "loud"}}"#, "unknown variant `loud`"),
        (r#"{"flexTimeout": "0s"}"#, "flexTimeout is 0"),
        (r#"{"flexWritable": "copy"}"#, "flexWritable must be shared or private"),
        (r#"{"hostTargetRoots": ["images"]}"#, "hostTargetRoots must be absolute paths"),
        (r#"{"store": "store"}"#, "store must be an absolute path"),
    ] {
        for (name, outcome) in said_to(text) {
            assert!(!outcome.status.success(), "{name}: {text}");
            let named = outcome.stderr.contains("config.json") && outcome.stderr.contains(words);
            assert!(named, "{name}: {text}: {}", outcome.stderr);
        }
    }
}
