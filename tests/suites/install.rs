//! `gitrepo-flex-install` puts the driver where the kubelet looks for it, and keeps it there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::kubelet::flex::Answer;
use gitrepo_tests::process;
use gitrepo_tests::program;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::program::Program;
use gitrepo_tests::program::Running;
use gitrepo_tests::require;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

mod volumes;

/// A node's plugin directory, below the test's directory.
struct Plugins {
    home: TempDir,
    program: Program,
}

impl Plugins {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir_all(home.path().join("volume/exec")).unwrap();
        // The test ignores this machine's own kubelet.
        let program = Program::new(program::executable("gitrepo-flex-install"));
        let program = program.env("GITREPO_FLEX_KUBELET_DIR", home.path().join("kubelet"));
        Self { home, program }
    }

    fn env(self, name: &str, value: &str) -> Self {
        Self { home: self.home, program: self.program.env(name, value) }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("volume/exec")
    }

    /// The driver's directory.
    fn directory(&self) -> PathBuf {
        self.path().join("piersharding~gitrepo")
    }

    fn driver(&self) -> PathBuf {
        self.directory().join("gitrepo")
    }

    fn configuration(&self) -> Value {
        serde_json::from_slice(&fs::read(self.directory().join(".config.json")).unwrap()).unwrap()
    }

    fn spawn(&self, command: &str, more: &[&str]) -> Running {
        let plugins = self.path();
        let words = [command, "--plugin-dir", plugins.to_str().unwrap()];
        self.program.spawn(words.iter().chain(more))
    }

    fn run(&self, command: &str, more: &[&str]) -> Outcome {
        self.spawn(command, more).wait()
    }

    fn install(&self) -> Outcome {
        self.run("install", &[]).assert_success()
    }

    fn is_healthy(&self, more: &[&str]) -> bool {
        self.run("healthy", more).status.success()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The inode and times of each file, which any write changes, by name; `.` is the directory.
    fn state(&self) -> BTreeMap<String, (u64, i64, i64, i64, i64)> {
        let state = |name: String| {
            let found = fs::symlink_metadata(self.directory().join(&name)).unwrap();
            (name, (found.ino(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
        };
        self.names().into_iter().chain([".".to_owned()]).map(state).collect()
    }
}

/// Waits until the condition `what` holds.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(120);
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_installation_is_the_executable_and_its_configuration_and_nothing_else() {
    let plugins = Plugins::new();
    assert!(!plugins.is_healthy(&[]));
    plugins.install();
    assert_eq!(plugins.names(), [".config.json", "gitrepo"]);
    assert_eq!(fs::read(plugins.driver()).unwrap(), fs::read(program::executable("gitrepo-flex")).unwrap());
    assert_eq!(mode(&plugins.driver()), 0o755);
    assert_eq!(mode(&plugins.directory().join(".config.json")), 0o600);
    assert_eq!(plugins.configuration(), json!({}));
    assert!(plugins.is_healthy(&[]));
    let version = Program::new(plugins.driver()).run(["--version"]).assert_success();
    let answer = Answer::decode(version.stdout.as_bytes()).unwrap();
    assert_eq!(answer.message, concat!("gitrepo-flex ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_driver_contains_no_installer() {
    let plugins = Plugins::new();
    let driver = Program::new(program::executable("gitrepo-flex"));
    let directory = plugins.path();
    for command in ["install", "healthy", "uninstall"] {
        let outcome = driver.run([command, "--plugin-dir", directory.to_str().unwrap()]).assert_success();
        let answer = Answer::decode(outcome.stdout.as_bytes()).unwrap();
        assert_eq!(answer.status, "Not supported", "{command}");
        assert!(answer.message.contains("gitrepo-flex-install"), "{}", answer.message);
    }
    assert!(!plugins.directory().exists());
    let holds = |name: &str| {
        let content = fs::read(program::executable(name)).unwrap();
        let variable = b"GITREPO_FLEX_PLUGIN_DIR";
        content.windows(variable.len()).any(|window| window == variable)
    };
    assert!(holds("gitrepo-flex-install") && !holds("gitrepo-flex"));
}

/// Copies of the installer and the driver, side by side in the test's directory.
fn copies(place: &Path) -> [PathBuf; 2] {
    ["gitrepo-flex-install", "gitrepo-flex"].map(|name| {
        let copy = place.join(name);
        fs::copy(program::executable(name), &copy).unwrap();
        copy
    })
}

#[test]
fn an_installer_without_its_driver_says_where_it_should_be() {
    let mut plugins = Plugins::new();
    let [installer, driver] = copies(plugins.home.path());
    plugins.program = Program::new(installer);
    fs::remove_file(&driver).unwrap();
    for _ in 0..2 {
        for command in ["install", "healthy"] {
            let refused = plugins.run(command, &[]).assert_code(1);
            assert!(refused.stderr.contains(driver.to_str().unwrap()), "{}", refused.stderr);
        }
        assert!(!plugins.directory().exists());
        // It does not accept a directory as the driver either.
        drop(fs::create_dir(&driver));
    }
    plugins.run("uninstall", &["--force"]).assert_success();
}

#[test]
fn a_staying_installer_keeps_the_driver_that_it_started_with() {
    let mut plugins = Plugins::new();
    let [installer, driver] = copies(plugins.home.path());
    let content = fs::read(&driver).unwrap();
    plugins.program = Program::new(installer);
    let staying = plugins.spawn("install", &["--stay", "--interval=10ms"]);
    let is_installed = || fs::read(plugins.driver()).is_ok_and(|found| found == content);
    wait_until("installed", is_installed);
    fs::remove_file(&driver).unwrap();
    fs::write(&driver, "half of another").unwrap();
    fs::remove_file(plugins.driver()).unwrap();
    wait_until("installed again", is_installed);
    staying.signal(Signal::SIGTERM);
    staying.wait().assert_success();
    assert!(is_installed());
}

#[test]
fn a_second_installation_changes_nothing() {
    let plugins = Plugins::new();
    plugins.install();
    let before = plugins.state();
    plugins.install();
    assert_eq!(plugins.state(), before);
}

#[test]
fn a_damaged_installation_is_replaced() {
    let plugins = Plugins::new();
    let driver = plugins.driver();
    let content = fs::read(program::executable("gitrepo-flex")).unwrap();
    let half = || fs::write(&driver, &content[..content.len() / 2]).unwrap();
    let other = || fs::write(&driver, "#!/bin/bash\n").unwrap();
    let longer = || fs::write(&driver, [&content[..], b"\n"].concat()).unwrap();
    let forbidden = || fs::set_permissions(&driver, fs::Permissions::from_mode(0o644)).unwrap();
    let removed = || fs::remove_file(&driver).unwrap();
    let linked = || {
        fs::rename(&driver, plugins.home.path().join("elsewhere")).unwrap();
        symlink(plugins.home.path().join("elsewhere"), &driver).unwrap();
    };
    let wiped = || {
        fs::remove_file(&driver).unwrap();
        fs::remove_file(plugins.directory().join(".config.json")).unwrap();
        fs::remove_dir(plugins.directory()).unwrap();
    };
    let misconfigured = || fs::write(plugins.directory().join(".config.json"), "{}").unwrap();
    plugins.install();
    let damages: [(&str, &dyn Fn()); 8] = [
        ("half of it", &half),
        ("another", &other),
        ("a longer one", &longer),
        ("one that may not be executed", &forbidden),
        ("none", &removed),
        ("a link", &linked),
        ("no directory", &wiped),
        ("another configuration", &misconfigured),
    ];
    for (what, damage) in damages {
        damage();
        assert!(!plugins.is_healthy(&[]), "{what}");
        plugins.install();
        assert!(plugins.is_healthy(&[]), "{what}");
        assert_eq!(fs::read(&driver).unwrap().len(), content.len(), "{what}");
    }
    assert!(fs::symlink_metadata(&driver).unwrap().is_file());
}

#[test]
fn temporary_files_are_removed_and_unknown_files_stay() {
    let plugins = Plugins::new();
    plugins.install();
    for name in [".gitrepo.new", ".config.json.new", ".tmp_gitrepo", "theirs", ".theirs"] {
        fs::write(plugins.directory().join(name), "half").unwrap();
    }
    let log = plugins.install().stderr;
    assert_eq!(plugins.names(), [".config.json", ".theirs", "gitrepo", "theirs"]);
    for name in [".theirs", "theirs"] {
        let path = plugins.directory().join(name);
        assert!(log.contains(path.to_str().unwrap()), "{log}");
    }
}

#[test]
fn many_installers_at_once_install_once() {
    let plugins = Plugins::new();
    let installers: Vec<_> = (0..8).map(|_| plugins.spawn("install", &[])).collect();
    let logs: Vec<_> = installers.into_iter().map(|installer| installer.wait().assert_success().stderr).collect();
    assert!(plugins.is_healthy(&[]));
    assert_eq!(plugins.names(), [".config.json", "gitrepo"]);
    let installed = logs.iter().filter(|log| log.contains(r#""message":"installed""#)).count();
    assert_eq!(installed, 1, "{logs:#?}");
}

#[test]
fn the_kubelet_can_call_the_driver_at_any_moment_of_an_installation() {
    let plugins = Plugins::new();
    plugins.install();
    let (driver, done) = (plugins.driver(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                let output = Command::new(&driver).arg("init").output();
                assert!(output.expect("neither missing nor being written").status.success());
                calls += 1;
            }
            calls
        });
        for _ in 0..10 {
            // The wrong mode, but executable.
            fs::set_permissions(&driver, fs::Permissions::from_mode(0o700)).unwrap();
            plugins.install();
        }
        done.store(true, Ordering::Relaxed);
        assert!(calls.join().unwrap() > 0);
    });
}

#[test]
fn debug_in_the_environment_becomes_the_log_level() {
    let plugins = Plugins::new().env("DEBUG", "true");
    plugins.install();
    assert_eq!(plugins.configuration(), json!({"log": {"level": "debug"}}));
    plugins.run("install", &["--log-level", "warn", "--log-format", "text"]).assert_success();
    assert_eq!(plugins.configuration(), json!({"log": {"level": "warn", "format": "text"}}));
    assert!(plugins.is_healthy(&["--log-level=warn", "--log-format=text"]) && !plugins.is_healthy(&[]));

    let plugins = Plugins { home: plugins.home, ..Plugins::new() }.env("DEBUG", "false");
    plugins.install();
    assert_eq!(plugins.configuration(), json!({}), "settings that are no longer given are removed");
}

#[test]
fn a_configuration_is_installed_only_if_the_driver_understands_it() {
    let plugins = Plugins::new();
    let file = plugins.home.path().join("config.json");
    let config = ["--config", file.to_str().unwrap()];
    fs::write(&file, r#"{"allowedHosts": ["git.example.com"], "log": {"level": "error"}}"#).unwrap();
    plugins.run("install", &config).assert_success();
    let written = json!({"allowedHosts": ["git.example.com"], "log": {"level": "error"}});
    assert_eq!(plugins.configuration(), written);

    for (text, complaint) in
        [(r#"{"allowedHost": []}"#, "allowedHost"), ("{", "line 1"), (r#"{"store": "x"}"#, "store")]
    {
        fs::write(&file, text).unwrap();
        let refused = plugins.run("install", &config).assert_code(1);
        assert!(refused.stderr.contains(complaint), "{}", refused.stderr);
        assert_eq!(plugins.configuration(), written, "the valid configuration stays");
    }
    fs::remove_file(&file).unwrap();
    let refused = plugins.run("install", &config).assert_code(1);
    assert!(refused.stderr.contains(file.to_str().unwrap()), "{}", refused.stderr);
}

#[test]
fn vendor_and_driver_name_a_directory_and_cannot_escape() {
    let plugins = Plugins::new().env("GITREPO_FLEX_VENDOR", "example.com").env("GITREPO_FLEX_DRIVER", "git");
    plugins.install();
    assert!(plugins.path().join("example.com~git/git").is_file());
    for name in ["a/b", "..", ".a", "a~b", "", "a\nb", "a b"] {
        plugins.run("install", &["--vendor", name]).assert_code(64);
        plugins.run("install", &["--driver", name]).assert_code(64);
    }
    assert_eq!(fs::read_dir(plugins.path()).unwrap().count(), 1);
}

#[test]
fn a_plugin_directory_is_created_only_on_request() {
    let plugins = Plugins::new();
    fs::remove_dir(plugins.path()).unwrap();
    let refused = plugins.run("install", &[]).assert_code(1);
    assert!(refused.stderr.contains("--create"), "{}", refused.stderr);
    assert!(!plugins.path().exists());
    plugins.run("install", &["--create"]).assert_success();
    assert!(plugins.is_healthy(&[]));
}

#[test]
fn a_driver_directory_that_is_a_link_is_refused() {
    let plugins = Plugins::new();
    let elsewhere = plugins.home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, plugins.directory()).unwrap();
    plugins.run("install", &[]).assert_code(1);
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_staying_installer_repairs_every_loss() {
    let plugins = Plugins::new();
    let file = plugins.home.path().join("config.json");
    fs::write(&file, "{}").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let healthy = || plugins.is_healthy(&config);
    let staying = plugins.spawn("install", &[&config[..], &["--stay", "--interval=10ms"]].concat());
    wait_until("installed", healthy);

    fs::write(plugins.driver(), "another").unwrap();
    wait_until("another executable is replaced", healthy);
    fs::remove_file(plugins.driver()).unwrap();
    wait_until("a removed executable is back", healthy);
    fs::rename(plugins.path(), plugins.home.path().join("volume/old")).unwrap();
    // A restarted kubelet makes an empty directory.
    fs::create_dir(plugins.path()).unwrap();
    wait_until("a wiped directory is filled", healthy);
    fs::write(&file, r#"{"log": {"level": "debug"}}"#).unwrap();
    wait_until("a new configuration is installed", || plugins.configuration() == json!({"log": {"level": "debug"}}));
    fs::write(&file, "{").unwrap();
    fs::remove_file(plugins.driver()).unwrap();
    fs::write(&file, "{}").unwrap();
    wait_until("an invalid configuration is survived", healthy);

    let before = plugins.state();
    staying.signal(Signal::SIGTERM);
    staying.wait().assert_success();
    assert_eq!(plugins.state(), before, "the driver stays");
}

#[test]
fn a_staying_installer_writes_nothing_to_a_healthy_installation() {
    let plugins = Plugins::new();
    let staying = plugins.spawn("install", &["--stay", "--interval=1ms"]);
    wait_until("installed", || plugins.is_healthy(&[]));
    let before = plugins.state();
    // The installer checks many times meanwhile.
    for _ in 0..5 {
        assert!(plugins.is_healthy(&[]));
    }
    staying.signal(Signal::SIGINT);
    staying.wait().assert_success();
    assert_eq!(plugins.state(), before);
}

#[test]
fn the_first_process_of_a_container_ends_at_sigterm() {
    if !require::root("for a process id namespace") || !require::tool("unshare") {
        return;
    }
    let plugins = Plugins::new();
    let container = Program::new(require::find("unshare").unwrap());
    let executable = program::executable("gitrepo-flex-install");
    let words = ["--pid", "--fork", "--kill-child", executable.to_str().unwrap(), "install", "--stay", "--plugin-dir"];
    let directory = plugins.path();
    let running = container.spawn(words.iter().chain(&[directory.to_str().unwrap()]));
    wait_until("installed", || plugins.is_healthy(&[]));
    let first = process::with_descendants(running.id()).into_iter().find(|pid| *pid != running.id()).unwrap();
    nix::sys::signal::kill(Pid::from_raw(first.cast_signed()), Signal::SIGTERM).unwrap();
    running.wait().assert_success();
    assert!(plugins.is_healthy(&[]));
}

#[test]
fn an_uninstallation_leaves_foreign_files() {
    let plugins = Plugins::new();
    plugins.run("uninstall", &[]).assert_success();
    plugins.install();
    plugins.run("uninstall", &[]).assert_success();
    assert!(!plugins.directory().exists());

    plugins.install();
    fs::write(plugins.directory().join("theirs"), "").unwrap();
    plugins.run("uninstall", &[]).assert_success();
    assert_eq!(plugins.names(), ["theirs"]);
}

#[test]
fn the_bash_drivers_git_and_jq_are_removed_with_it_and_not_before() {
    let plugins = Plugins::new();
    let above = plugins.home.path().join("volume");
    let settings = "DRIVER_LOCATION=/x/\nGIT_EXE=/x/git\nJQ_EXE=/x/jq\nHOST_TARGET=/var/tmp/images\nDEBUG=false\n";
    let script = "#!/bin/bash\nsource ${SCRIPT_DIR}/../../gitrepo_env.rc\n";
    let predecessor = ["--predecessor-dir", above.to_str().unwrap()];
    let left = || {
        let names = fs::read_dir(&above).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "exec").collect();
        names.sort();
        names
    };
    for name in ["git", "jq", "git_2.17.1-1ubuntu0.5_amd64.deb", "theirs"] {
        fs::write(above.join(name), "binary").unwrap();
    }
    let all = ["git", "git_2.17.1-1ubuntu0.5_amd64.deb", "jq", "theirs"];

    plugins.run("install", &predecessor).assert_success();
    assert_eq!(left(), all, "without the settings file, the owner is unknown");

    fs::write(above.join("gitrepo_env.rc"), settings).unwrap();
    let second = plugins.path().join("example.com~git");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("git"), script).unwrap();
    let log = plugins.run("install", &predecessor).assert_success().stderr;
    assert_eq!(left().len(), all.len() + 1, "another driver still uses them: {log}");

    fs::remove_file(second.join("git")).unwrap();
    fs::write(plugins.driver(), script).unwrap();
    plugins.run("install", &predecessor).assert_success();
    assert_eq!(left(), ["theirs"]);
    assert!(plugins.is_healthy(&[]));
}

#[test]
fn a_driver_named_git_is_not_taken_for_the_bash_drivers_git() {
    let plugins = Plugins::new();
    let directory = plugins.path().join("example.com~git");
    fs::create_dir(&directory).unwrap();
    for name in ["gitrepo_env.rc", "jq"] {
        fs::write(directory.join(name), "DRIVER_LOCATION=/x/\nGIT_EXE=/x/git\nJQ_EXE=/x/jq\n").unwrap();
    }
    let named = ["--vendor", "example.com", "--driver", "git"];
    plugins.run("install", &named).assert_success();
    assert!(plugins.is_healthy(&named));
    assert!(!directory.join("jq").exists());
}
