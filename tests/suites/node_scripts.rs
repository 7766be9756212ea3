//! `make node-test` takes too long for every change. Checking that its scripts parse and that its manifests are valid
//! does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_tests::manifests;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::require;
use tempfile::TempDir;

fn node() -> PathBuf {
    workspace().join("tests/node")
}

/// All files below `directory` with this extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    found
}

fn assert_success(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_shell_script_parses() {
    if !require::tool("bash") {
        return;
    }
    let scripts = files(&node(), "sh");
    assert!(scripts.iter().any(|script| script.ends_with("node-test.sh")), "{scripts:?}");
    for script in scripts {
        assert_success(Command::new("bash").arg("-n").arg(script));
    }
}

#[test]
fn every_python_program_compiles() {
    if !require::tool("python3") {
        return;
    }
    let compiled = TempDir::new().unwrap();
    let programs = files(&node(), "py");
    assert!(programs.iter().any(|program| program.ends_with("run_scenes.py")), "{programs:?}");
    let compile = "import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], doraise=True)";
    for program in programs {
        let output = compiled.path().join("compiled");
        assert_success(Command::new("python3").args(["-c", compile]).arg(program).arg(output));
    }
}

/// A scene that is not listed would never run.
#[test]
fn every_scene_is_run() {
    let runner = fs::read_to_string(node().join("run_scenes.py")).unwrap();
    let list = runner.split_once("\nSCENES = [").unwrap().1.split_once("\n]").unwrap().0;
    let run: BTreeSet<&str> =
        list.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\",")).collect();
    let there: Vec<String> = files(&node().join("scenes"), "py")
        .iter()
        .map(|scene| scene.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "__init__")
        .collect();
    assert_eq!(run, there.iter().map(String::as_str).collect::<BTreeSet<_>>());
}

#[test]
fn kubernetes_understands_the_git_server() {
    let Some(yaml) = manifests::render(&node().join("servers")) else { return };
    let objects = manifests::parse(&yaml).unwrap();
    let pod = objects.iter().find(|object| object.kind() == "Pod").unwrap();
    assert_eq!(pod.field("/spec/automountServiceAccountToken").unwrap(), false);
    let programs = objects.iter().find(|object| object.kind() == "ConfigMap").unwrap();
    assert!(programs.field("/data/in_cluster.py").is_some(), "{yaml}");
    // The Pod mounts the ConfigMap by its hashed name.
    let mounted = pod.field("/spec/volumes").unwrap().as_array().unwrap();
    assert!(mounted.iter().any(|volume| volume["configMap"]["name"] == programs.name()), "{yaml}");
}
