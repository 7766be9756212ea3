//! The Makefile, with a fake kubectl that records its calls.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::program;
use gitrepo_tests::require;
use k8s_openapi::api::apps::v1::DaemonSet;
use tempfile::TempDir;

/// The targets of the bash driver, and ours.
const TARGETS: [&str; 33] = [
    "k8s",
    "show",
    "deploy",
    "delete",
    "wait",
    "logs",
    "describe",
    "namespace",
    "delete_namespace",
    "image",
    "push",
    "redeploy",
    "driver-tests",
    "conformance",
    "test",
    "test-results",
    "test-clean",
    "clean",
    "cleanall",
    "kubectl_dependencies",
    "help",
    "static",
    "show-csi",
    "deploy-csi",
    "wait-csi",
    "delete-csi",
    "logs-csi",
    "node-test",
    "node-bench",
    "e2e",
    "bench",
    "bench-docs",
    "soak",
];
const VARIABLES: [&str; 21] = [
    "CI_REGISTRY",
    "CI_REPOSITORY",
    "CSI_OVERLAY",
    "FORCE",
    "IMAGE",
    "TAG",
    "DEBUG",
    "DOCKERFILE",
    "DRIVER_NAMESPACE",
    "KUBELET_DIR",
    "KUBE_NAMESPACE",
    "KUBECTL_VERSION",
    "KUBERNETES",
    "SCENES",
    "KEEP",
    "ROUNDS",
    "GIT_SERVER_IMAGE",
    "CASES",
    "GIT_SYNC",
    "OUT",
    "DIVIDE",
];

/// A fake cluster.
struct Cluster {
    home: TempDir,
}

impl Cluster {
    /// A kubectl that renders with the real one or kustomize. Otherwise it only records its arguments and the objects
    /// to apply, and gives prepared answers.
    fn new() -> Self {
        let cluster = Self { home: TempDir::new().unwrap() };
        let real = require::find("kubectl").map_or_else(|| "false".into(), |path| path.display().to_string());
        let script = format!(
            "#!/bin/sh\ncase $1 in kustomize) exec {real} \"$@\" ;; esac\n\
             printf '%s\\n' \"$*\" >>{home}/calls\n\
             case \"$*\" in *-f\\ -) cat >{home}/objects ;; *'get namespace missing'*) exit 1 ;; esac\n\
             if [ -e {home}/fails ]; then case \"$*\" in *\"$(cat {home}/fails)\"*) exit 1 ;; esac; fi\n\
             [ \"$1\" != -n ] || shift 2\n\
             case \"$*\" in 'get '*-o*) cat {home}/\"$2\" 2>/dev/null || true ;; esac\n",
            home = cluster.home.path().display()
        );
        let path = cluster.home.path().join("kubectl");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        cluster
    }

    /// Sets the cluster's answer to `kubectl get <resource> -o …`.
    fn has(&self, resource: &str, lines: &str) {
        fs::write(self.home.path().join(resource), lines).unwrap();
    }

    /// From now on, every command that contains `words` fails.
    fn fails(&self, words: &str) {
        fs::write(self.home.path().join("fails"), words).unwrap();
    }

    fn make(&self, words: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut make = Command::new("make");
        make.args(words).current_dir(workspace());
        for variable in VARIABLES.iter().chain(&["VENDOR", "DRIVER", "TEST", "OVERLAY"]) {
            make.env_remove(variable);
        }
        make.env("PATH", format!("{}:{path}:{}", self.home.path().display(), manifests::tools().display()));
        make.output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.home.path().join("calls")).unwrap_or_default();
        drop(fs::remove_file(self.home.path().join("calls")));
        calls.lines().map(str::to_owned).collect()
    }

    fn objects(&self) -> Vec<Object> {
        manifests::parse(&fs::read_to_string(self.home.path().join("objects")).unwrap()).unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_success(output: Output) -> String {
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn make_without_a_target_shows_every_target_and_variable() {
    if !require::tool("make") {
        return;
    }
    let cluster = Cluster::new();
    let help = assert_success(cluster.make(&[]));
    assert_eq!(help, assert_success(cluster.make(&["help"])));
    let words: BTreeMap<&str, &str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(' '))
        .map(|(name, meaning)| (name, meaning.trim()))
        .collect();
    for name in TARGETS.iter().chain(&VARIABLES) {
        assert!(words.get(name).is_some_and(|meaning| !meaning.is_empty()), "{name}: {help}");
    }
    for (name, default) in [("TAG", "latest"), ("DRIVER_NAMESPACE", "kube-system"), ("DEBUG", "false")] {
        assert!(words[name].starts_with(default), "{}", words[name]);
    }
    let makefile = fs::read_to_string(workspace().join("Makefile")).unwrap();
    for line in makefile.lines().filter(|line| !line.starts_with(['\t', '#', '.']) && line.contains(": ")) {
        assert!(line.contains("## "), "no description: {line}");
    }
}

#[test]
fn deploy_applies_what_the_variables_say() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/flexvolume/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    let variables = [
        "CI_REGISTRY=registry.example.com:5000",
        "IMAGE=team/gitrepo",
        "TAG=v1",
        "DRIVER_NAMESPACE=missing",
        "DEBUG=true",
        "VENDOR=example.com",
        "PLUGIN_DIR=/opt/plugins",
        "KUBELET_DIR=/opt/kubelet",
    ];
    assert_success(cluster.make(&[&["deploy"][..], &variables].concat()));
    let calls = cluster.calls();
    let label = "label namespace missing pod-security.kubernetes.io/enforce=privileged";
    assert_eq!(calls, ["get namespace missing", "create namespace missing", label, "apply -f -"]);
    let objects = cluster.objects();
    assert!(objects.iter().all(|object| object.field("/metadata/namespace").unwrap() == "missing"));
    let pod = objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap();
    let container = &pod.containers[0];
    assert_eq!(container.image.as_deref(), Some("registry.example.com:5000/team/gitrepo:v1"));
    let environment: BTreeMap<_, _> = container
        .env
        .iter()
        .flatten()
        .map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap()))
        .collect();
    for (name, value) in [
        ("GITREPO_FLEX_VENDOR", "example.com"),
        ("GITREPO_FLEX_DRIVER", "gitrepo"),
        ("GITREPO_FLEX_CONFIG", "/etc/gitrepo/config.json"),
        ("GITREPO_FLEX_KUBELET_DIR", "/opt/kubelet"),
        ("DEBUG", "true"),
    ] {
        assert_eq!(environment.get(name), Some(&value), "{name}");
    }
    let paths: Vec<_> =
        pod.volumes.iter().flatten().filter_map(|volume| Some(&volume.host_path.as_ref()?.path)).collect();
    assert!(paths.iter().any(|path| *path == "/opt/plugins") && paths.iter().any(|path| *path == "/opt/kubelet/pods"));
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(|mount| &mount.mount_path).collect();
    assert!(mounts.iter().any(|path| *path == "/opt/kubelet/pods"), "{mounts:?}");

    assert_success(cluster.make(&[&["delete"][..], &variables].concat()));
    assert_eq!(cluster.calls(), ["delete --ignore-not-found --wait -f -"]);
    assert!(cluster.objects().iter().all(|object| object.kind() != "Namespace"), "other objects may be in it");
}

#[test]
fn deploy_without_variables_is_the_base_and_invalid_values_are_refused() {
    if !require::tool("make") {
        return;
    }
    let Some(base) = manifests::render(&workspace().join("deploy/flexvolume/base")) else { return };
    let cluster = Cluster::new();
    let shown = String::from_utf8(cluster.make(&["--silent", "show"]).stdout).unwrap();
    assert_eq!(shown, base);
    for nonsense in ["VENDOR=a b", "DRIVER_NAMESPACE=a\"b", "OVERLAY=deploy/nowhere"] {
        assert!(!cluster.make(&["deploy", nonsense]).status.success(), "{nonsense}");
        assert_eq!(cluster.calls(), <[&str; 0]>::default(), "{nonsense}");
    }
}

#[test]
fn uninstall_runs_on_every_node_before_the_daemon_set_is_deleted() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/flexvolume/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    assert_success(cluster.make(&["uninstall", "VENDOR=example.com"]));
    let fresh = "-n kube-system delete pods -l app=k8s-gitrepo-vol --timeout=60s";
    let wait = "-n kube-system rollout status daemonset/gitrepo-flex-ds --timeout=2s";
    let calls = ["get namespace kube-system", "apply -f -", fresh, wait, "delete --ignore-not-found --wait -f -"];
    assert_eq!(cluster.calls(), calls);
    let objects = cluster.objects();
    let pod = objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap();
    assert_eq!(pod.containers[0].args.as_ref().unwrap()[0], "uninstall");
    assert!(pod.containers[0].env.iter().flatten().any(|variable| variable.value.as_deref() == Some("example.com")));

    cluster.fails("rollout status");
    cluster.has("pods", "node-1||pods have 2 volumes of the driver\nnode-2|2026-01-01T00:00:00Z|what was\n");
    let refused = cluster.make(&["uninstall"]);
    let said = text(&refused);
    assert!(!refused.status.success() && said.contains("  node-1: pods have 2 volumes of the driver\n"), "{said}");
    assert!(!said.contains("node-2"), "node-2 is done: {said}");
    assert!(!cluster.calls().iter().any(|call| call.starts_with("delete ")), "the DaemonSet stays");

    let installs = cluster.make(&["uninstall", "OVERLAY=deploy/flexvolume/overlays/example"]);
    assert!(!installs.status.success() && String::from_utf8_lossy(&installs.stderr).contains("overlays/example"));
    assert_eq!(cluster.calls(), <[&str; 0]>::default());
}

#[test]
fn deploy_csi_applies_what_the_variables_say_to_node_and_controller() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/csi/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    let variables = [
        "CI_REGISTRY=registry.example.com:5000",
        "IMAGE=team/gitrepo",
        "TAG=v1",
        "DRIVER_NAMESPACE=missing",
        "DEBUG=true",
        "KUBELET_DIR=/opt/kubelet",
        "CSI_OVERLAY=deploy/csi/overlays/controller",
    ];
    assert_success(cluster.make(&[&["deploy-csi"][..], &variables].concat()));
    let label = "label namespace missing pod-security.kubernetes.io/enforce=privileged";
    assert_eq!(cluster.calls(), ["get namespace missing", "create namespace missing", label, "apply -f -"]);
    let objects = cluster.objects();
    for namespace in objects.iter().flat_map(|object| {
        [object.field("/metadata/namespace"), object.field("/subjects/0/namespace")].into_iter().flatten()
    }) {
        assert_eq!(namespace, "missing");
    }
    let pods: Vec<_> = objects.iter().filter_map(|object| object.field("/spec/template/spec")).collect();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let driver = &pod["containers"][0];
        assert_eq!(driver["image"], "registry.example.com:5000/team/gitrepo:v1");
        let level = driver["env"].as_array().unwrap().iter().find(|entry| entry["name"] == "GITREPO_LOG_LEVEL");
        assert_eq!(level.unwrap()["value"], "debug");
    }
    let pod = objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap();
    let paths: Vec<_> =
        pod.volumes.iter().flatten().filter_map(|volume| Some(volume.host_path.as_ref()?.path.as_str())).collect();
    for path in ["/opt/kubelet/pods", "/opt/kubelet/plugins/csi.gitrepo.internal", "/opt/kubelet/plugins_registry"] {
        assert!(paths.contains(&path), "{paths:?}");
    }
    let container = &pod.containers[0];
    let pods = container.volume_mounts.iter().flatten().find(|mount| mount.name == "pods").unwrap();
    assert_eq!(
        (pods.mount_path.as_str(), pods.mount_propagation.as_deref()),
        ("/opt/kubelet/pods", Some("Bidirectional"))
    );
    let kubelet = container.env.iter().flatten().find(|entry| entry.name == "GITREPO_KUBELET_DIR").unwrap();
    assert_eq!(kubelet.value.as_deref(), Some("/opt/kubelet"));
}

#[test]
fn deploy_csi_without_variables_is_the_base_and_invalid_values_are_refused() {
    if !require::tool("make") {
        return;
    }
    let Some(base) = manifests::render(&workspace().join("deploy/csi/base")) else { return };
    let cluster = Cluster::new();
    let shown = String::from_utf8(cluster.make(&["--silent", "show-csi"]).stdout).unwrap();
    assert_eq!(shown, base);
    for nonsense in ["KUBELET_DIR=a b", "DRIVER_NAMESPACE=a\"b", "CSI_OVERLAY=deploy/nowhere"] {
        assert!(!cluster.make(&["deploy-csi", nonsense]).status.success(), "{nonsense}");
        assert_eq!(cluster.calls(), <[&str; 0]>::default(), "{nonsense}");
    }
}

#[test]
fn make_finds_a_driver_in_the_namespace_of_its_overlay() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/csi/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    for (overlay, driver, targets) in [
        ("CSI_OVERLAY=deploy/csi/overlays/own-namespace", "gitrepo-csi", ["wait-csi", "logs-csi"]),
        ("OVERLAY=deploy/flexvolume/overlays/own-namespace", "gitrepo-flex", ["wait", "logs"]),
    ] {
        assert_success(cluster.make(&[&targets[..], &[overlay]].concat()));
        let calls = cluster.calls();
        assert!(calls.len() == 3 && calls.iter().all(|call| call.starts_with("-n gitrepo ")), "{driver}: {calls:?}");
        assert!(calls[0].contains(&format!("rollout status daemonset/{driver}-")), "{driver}: {calls:?}");
        assert_success(cluster.make(&[&targets[..1], &[overlay, "DRIVER_NAMESPACE=mine"]].concat()));
        assert!(cluster.calls()[0].starts_with("-n mine "), "{driver}");
    }
}

#[test]
fn wait_csi_waits_for_the_controller_too() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/csi/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    assert_success(cluster.make(&["wait-csi", "CSI_OVERLAY=deploy/csi/overlays/controller"]));
    let calls = cluster.calls();
    for workload in ["deployment/gitrepo-csi-controller", "daemonset/gitrepo-csi-node"] {
        let wait = format!("-n kube-system rollout status {workload} --timeout=180s");
        assert!(calls.contains(&wait), "{calls:?}");
    }
}

#[test]
fn a_wait_that_times_out_shows_the_pods_and_their_warnings() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/csi/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    for (target, failing, namespace) in [
        ("wait-csi", "rollout status", "kube-system"),
        ("wait", "rollout status", "kube-system"),
        ("test-results", "wait --for", "mine"),
    ] {
        cluster.fails(failing);
        let gave_up = cluster.make(&[target, "KUBE_NAMESPACE=mine"]);
        assert!(!gave_up.status.success() && text(&gave_up).contains("Warnings in"), "{}", text(&gave_up));
        let calls = cluster.calls();
        let events = format!("-n {namespace} get events --field-selector type=Warning --sort-by=.lastTimestamp");
        let pods = format!("-n {namespace} get pods");
        assert_eq!(calls.last(), Some(&events), "{target}");
        assert!(calls.iter().any(|call| call.starts_with(&pods)), "{target}: {calls:?}");
    }
}

#[test]
fn delete_csi_is_refused_while_pods_or_claims_use_the_driver() {
    if !require::tool("make") || manifests::render(&workspace().join("deploy/csi/base")).is_none() {
        return;
    }
    let cluster = Cluster::new();
    let deletes = |cluster: &Cluster| cluster.calls().iter().any(|call| call.starts_with("delete "));
    cluster.has(
        "pods",
        "pod a/idle Running\npod a/other Running  other.example.com\npod a/done Succeeded csi.gitrepo.internal\n",
    );
    cluster.has("persistentvolumes", "claim / Available csi.gitrepo.internal\nclaim a/b Bound other.example.com\n");
    assert_success(cluster.make(&["delete-csi"]));
    assert!(deletes(&cluster));

    // An overlay that is not named here may have added the controller.
    cluster.has("deployments", "  kube-system/gitrepo-csi-controller\n");
    let half = cluster.make(&["delete-csi"]);
    assert!(!half.status.success() && text(&half).contains("CSI_OVERLAY="), "{}", text(&half));
    cluster.has("deployments", "");
    cluster.calls();

    cluster.has("pods", "pod a/idle Running\npod b/busy Running   csi.gitrepo.internal \n");
    cluster.has("persistentvolumes", "claim c/site Bound csi.gitrepo.internal\n");
    let refused = cluster.make(&["delete-csi"]);
    assert!(!refused.status.success() && !deletes(&cluster));
    let said = text(&refused);
    assert!(said.contains("  pod b/busy\n  claim c/site\n") && said.contains("FORCE=true"), "{said}");
    assert!(!said.contains("idle"), "{said}");
    assert_success(cluster.make(&["delete-csi", "FORCE=true"]));
    assert!(deletes(&cluster));
}

#[test]
fn the_test_uses_its_namespace_and_system_namespaces_are_not_deleted() {
    if !require::tool("make") {
        return;
    }
    let cluster = Cluster::new();
    assert_success(cluster.make(&["test", "KUBE_NAMESPACE=missing"]));
    let apply = "-n missing apply -f tests/mount-test.yaml";
    assert_eq!(cluster.calls(), ["get namespace missing", "create namespace missing", apply]);
    assert_success(cluster.make(&["test-results", "KUBE_NAMESPACE=mine"]));
    let calls = cluster.calls();
    for number in 1..=2 {
        let wait = format!("-n mine wait --for=condition=available deployment/nginx-deployment{number} --timeout=180s");
        let get = format!("get --raw /api/v1/namespaces/mine/services/nginx{number}:80/proxy/");
        assert!(calls.contains(&wait) && calls.contains(&get), "{calls:?}");
    }
    for namespace in ["default", "kube-system", "kube-public"] {
        assert!(!cluster.make(&["delete_namespace", &format!("KUBE_NAMESPACE={namespace}")]).status.success());
        assert_eq!(cluster.calls(), <[&str; 0]>::default());
    }
    assert_success(cluster.make(&["delete_namespace", "KUBE_NAMESPACE=mine"]));
    assert_eq!(cluster.calls(), ["delete namespace --ignore-not-found mine"]);
}

#[test]
fn kubectl_is_installed_only_if_its_checksum_matches() {
    if !require::tool("curl") {
        return;
    }
    let place = TempDir::new().unwrap();
    let releases = place.path().join("v1.2.3/bin/linux/amd64");
    fs::create_dir_all(&releases).unwrap();
    let bin = place.path().join("bin");
    let run = |version: &str| {
        let mut command = Command::new("/bin/sh");
        command.arg(workspace().join("deploy/make/kubectl.sh")).env_clear();
        command.env("PATH", tools_without_kubectl(&place)).env("KUBECTL_DIR", &bin).env("KUBECTL_VERSION", version);
        command.env("KUBECTL_RELEASES", format!("file://{}", place.path().display()));
        command.env("KUBE_CONFIG_BASE64", "Y29uZmlnCg==").env("KUBECONFIG", place.path().join("kube/config"));
        command.output().unwrap()
    };
    fs::write(releases.join("kubectl"), "#!/bin/sh\necho version 1.2.3\n").unwrap();
    fs::write(releases.join("kubectl.sha256"), "0".repeat(64)).unwrap();
    let refused = run("1.2.3");
    assert!(!refused.status.success() && text(&refused).contains("checksum"), "{}", text(&refused));
    assert!(!bin.join("kubectl").exists());
    let missing = run("1.2.4");
    assert!(!missing.status.success() && text(&missing).contains("cannot download"), "{}", text(&missing));

    let sum = Command::new("sha256sum").arg(releases.join("kubectl")).output().unwrap().stdout;
    fs::write(releases.join("kubectl.sha256"), &sum[..64]).unwrap();
    let installed = assert_success(run("1.2.3"));
    assert!(installed.contains("version 1.2.3"), "{installed}");
    assert_eq!(fs::metadata(bin.join("kubectl")).unwrap().permissions().mode() & 0o777, 0o755);
    let config = place.path().join("kube/config");
    assert_eq!(fs::read(&config).unwrap(), b"config\n");
    assert_eq!(fs::metadata(config).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn driver_tests_mount_and_unmount_without_a_cluster() {
    if !require::root("to mount") || !require::tool("make") || !require::tool("unshare") || !require::tool("git") {
        return;
    }
    let flex = format!("GITREPO_FLEX={}", program::executable("gitrepo-flex").display());
    let said = assert_success(Cluster::new().make(&["driver-tests", &flex]));
    assert!(said.contains("\ndriver-tests: passed\n"), "{said}");
    assert_eq!(said.matches(r#"{"status":"Success"}"#).count(), 6, "{said}");
}

#[test]
fn soak_runs_suites_that_exist() {
    let script = fs::read_to_string(workspace().join("tests/soak.sh")).unwrap();
    let words = script.lines().find_map(|line| line.strip_prefix("[ $# -gt 0 ] || set -- ")).unwrap();
    let listed = Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let tests = text(&listed);
    for filter in words.split_whitespace() {
        assert!(tests.lines().any(|test| test.contains(filter)), "{filter} selects no test");
    }
}

/// A directory with the tools that the script needs, without a kubectl that may be installed beside them.
fn tools_without_kubectl(place: &TempDir) -> PathBuf {
    let tools = place.path().join("tools");
    fs::create_dir_all(&tools).unwrap();
    for tool in ["uname", "mktemp", "curl", "cut", "sha256sum", "install", "rm", "mkdir", "dirname", "base64"] {
        let link = tools.join(tool);
        if !link.exists() {
            std::os::unix::fs::symlink(require::find(tool).unwrap(), link).unwrap();
        }
    }
    tools
}
