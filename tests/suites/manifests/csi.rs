//! `deploy/csi`: the driver accepts its pods' command lines, and paths match the kubelet's and other programs'.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gitrepo_core::gateway::Bounds;
use gitrepo_core::policy::Config;
use gitrepo_core::spec::quantity;
use gitrepo_core::worker::Confined;
use gitrepo_csi::arguments::Arguments;
use gitrepo_csi::arguments::Mode;
use gitrepo_csi::server;
use gitrepo_csi::settings::Settings;
use gitrepo_frontend::configuration::Configuration;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::program;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::shell::Shell;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::core::v1::VolumeMount;
use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::json;
use tempfile::TempDir;

const DRIVER: &str = "csi.gitrepo.internal";

/// The longest time from the signal to the end, beyond the calls' grace: cancelled calls, jobs, and core's calls.
const AFTER_GRACE: Duration = Duration::from_secs(9);

/// Every deployment of the driver in `deploy`, rendered.
fn deployments() -> Vec<(String, Vec<Object>)> {
    let is_csi = |directory: &PathBuf| directory.starts_with(workspace().join("deploy/csi"));
    let mut rendered = Vec::new();
    for directory in manifests::kustomizations().into_iter().filter(is_csi) {
        let Some(yaml) = manifests::render(&directory) else { return Vec::new() };
        rendered.push((directory.display().to_string(), manifests::parse(&yaml).unwrap()));
    }
    let example = workspace().join("deploy/csi/overlays/example");
    let uncommented = manifests::render_uncommented(&example).unwrap();
    assert!(uncommented.contains("/var/lib/k0s/kubelet/plugins_registry"), "{uncommented}");
    rendered.push((format!("{}, uncommented", example.display()), manifests::parse(&uncommented).unwrap()));
    let base = workspace().join("deploy/csi/base");
    for component in manifests::components().into_iter().filter(is_csi) {
        let yaml = manifests::render_with(&base, std::slice::from_ref(&component)).unwrap();
        rendered.push((component.display().to_string(), manifests::parse(&yaml).unwrap()));
    }
    assert!(rendered.len() >= 8);
    rendered
}

fn daemon_set(objects: &[Object]) -> PodSpec {
    objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap()
}

fn driver(pod: &PodSpec) -> &Container {
    pod.containers.iter().find(|container| container.name == "driver").unwrap()
}

/// The configuration that the pods mount, by its hashed name.
fn configuration(pod: &PodSpec, objects: &[Object]) -> String {
    let name = pod.volumes.iter().flatten().find_map(|volume| volume.config_map.as_ref()).unwrap().name.clone();
    assert!(name.starts_with("gitrepo-csi-config-"), "{name}: a change must replace the pods");
    let maps = objects.iter().filter_map(Object::get::<ConfigMap>);
    let map = maps.into_iter().find(|map| map.metadata.name.as_ref() == Some(&name)).expect("the ConfigMap is there");
    map.data.unwrap().remove("config.json").unwrap()
}

/// The container's command line, with its environment as the flags of the same names.
fn command_line(container: &Container, configuration: &str, place: &TempDir) -> Vec<String> {
    assert_eq!(container.command.as_deref(), Some(&["/bin/gitrepo-csi".to_owned()][..]));
    let file = place.path().join("config.json");
    fs::write(&file, configuration).unwrap();
    let mut words = vec!["gitrepo-csi".to_owned()];
    for word in container.args.iter().flatten() {
        words.push(word.replace("/etc/gitrepo/config.json", file.to_str().unwrap()));
    }
    for variable in container.env.iter().flatten() {
        let flag = variable.name.strip_prefix("GITREPO_").unwrap().replace('_', "-").to_lowercase();
        words.push(format!("--{flag}={}", variable.value.as_deref().unwrap_or("from-the-downward-api")));
    }
    words
}

fn finish_within(driver: &Container) -> Duration {
    let variable = driver.env.iter().flatten().find(|variable| variable.name == "GITREPO_FINISH_WITHIN").unwrap();
    Duration::from_secs(variable.value.as_ref().unwrap().parse().unwrap())
}

fn mount<'a>(container: &'a Container, volume: &str) -> &'a VolumeMount {
    let mounts = container.volume_mounts.as_ref().unwrap();
    mounts.iter().find(|mount| mount.name == volume).unwrap_or_else(|| panic!("{volume} is not mounted"))
}

fn host_path<'a>(pod: &'a PodSpec, volume: &str) -> &'a str {
    let volume = pod.volumes.iter().flatten().find(|found| found.name == volume);
    &volume.and_then(|volume| volume.host_path.as_ref()).unwrap().path
}

#[test]
fn the_csi_driver_object_has_the_settings_that_the_driver_needs() {
    for (name, objects) in deployments() {
        let object = objects.iter().find_map(Object::get::<CSIDriver>).unwrap();
        assert_eq!(object.metadata.name.as_deref(), Some(DRIVER), "{name}");
        let expected = json!({
            "attachRequired": false,
            "podInfoOnMount": true,
            "volumeLifecycleModes": ["Ephemeral", "Persistent"],
            "fsGroupPolicy": "None",
            "seLinuxMount": false,
            "requiresRepublish": false,
            "storageCapacity": false,
        });
        assert_eq!(serde_json::to_value(object.spec).unwrap(), expected, "{name}");
    }
}

#[test]
fn the_driver_accepts_the_command_line_of_every_daemon_set() {
    let place = TempDir::new().unwrap();
    for (name, objects) in deployments() {
        let pod = daemon_set(&objects);
        let container = driver(&pod);
        let words = command_line(container, &configuration(&pod, &objects), &place);
        let arguments = Arguments::try_parse_from(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
        let settings = Settings::read(&arguments).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(arguments.mode, Mode::Node, "{name}");
        assert_eq!(arguments.driver_name, DRIVER, "{name}");
        let from_node = container.env.iter().flatten().find(|variable| variable.name == "GITREPO_NODE_ID").unwrap();
        let field = from_node.value_from.as_ref().and_then(|from| from.field_ref.as_ref()).unwrap();
        assert_eq!(field.field_path, "spec.nodeName", "{name}");

        // Records and requests contain paths of the node.
        let kubelet = &arguments.kubelet_dir;
        for (volume, expected) in [("pods", kubelet.join("pods")), ("store", settings.config.store.clone())] {
            let mount = mount(container, volume);
            assert_eq!(Path::new(&mount.mount_path), expected, "{name}");
            assert_eq!(Path::new(host_path(&pod, volume)), expected, "{name}");
            assert_eq!(mount.mount_propagation.as_deref(), Some("Bidirectional"), "{name}");
        }
        let plugin = mount(container, "plugin");
        assert_eq!(settings.endpoint.path().parent(), Some(Path::new(&plugin.mount_path)), "{name}");
        let socket = Path::new(host_path(&pod, "plugin")).join(settings.endpoint.path().file_name().unwrap());
        assert_eq!(settings.kubelet_endpoint, socket, "{name}");
        assert_eq!(Path::new(host_path(&pod, "registration")), kubelet.join("plugins_registry"), "{name}");
        let run = mount(container, "run");
        assert_eq!(run.mount_path, host_path(&pod, "run"), "{name}");
        assert!(Path::new(Confined::UID_LOCKS).starts_with(&run.mount_path), "{name}: uids must be unique on the node");

        assert!(!arguments.http.ip().is_loopback(), "{name}: other hosts could not reach it");
        let port = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some("http")).unwrap();
        assert_eq!(i32::from(arguments.http.port()), port.container_port, "{name}");
    }
}

#[test]
fn either_the_driver_or_the_registrar_registers() {
    let mut sidecars = 0;
    for (name, objects) in deployments() {
        let pod = daemon_set(&objects);
        let container = driver(&pod);
        let registers_itself =
            container.env.iter().flatten().find(|variable| variable.name == "GITREPO_KUBELET_REGISTRATION_DIR");
        let Some(registrar) = pod.containers.iter().find(|container| container.name == "node-driver-registrar") else {
            let directory = registers_itself.unwrap().value.as_ref();
            assert_eq!(directory, Some(&mount(container, "registration").mount_path), "{name}");
            assert_eq!(pod.containers.len(), 1, "{name}");
            continue;
        };
        sidecars += 1;
        assert!(registers_itself.is_none(), "{name}");
        assert_eq!(mount(registrar, "registration").mount_path, "/registration", "{name}: the registrar's own default");
        let path = format!("--kubelet-registration-path={}/csi.sock", host_path(&pod, "plugin"));
        assert!(registrar.args.as_ref().unwrap().contains(&path), "{name}");
        for container in pod.containers.iter().filter(|container| container.name != "driver") {
            let version = container.image.as_ref().unwrap().rsplit_once(":v").unwrap().1;
            assert_eq!(version.split('.').count(), 3, "{name}: {version}");
        }
    }
    assert!(sidecars > 0);
}

#[test]
fn a_pod_has_the_time_and_memory_that_its_driver_needs() {
    for (name, objects) in deployments() {
        let pod = daemon_set(&objects);
        let grace = u64::try_from(pod.termination_grace_period_seconds.unwrap()).unwrap();
        let finishing = finish_within(driver(&pod));
        assert!(Duration::from_secs(grace) > finishing + server::GRACE + AFTER_GRACE, "{name}");
        // A registrar ends at once, and then no call reaches a driver that finishes clones.
        match pod.containers.iter().any(|container| container.name == "node-driver-registrar") {
            true => assert_eq!(finishing, Duration::ZERO, "{name}"),
            false => assert!(finishing >= Duration::from_secs(60), "{name}: too short to finish a clone"),
        }

        let text = configuration(&pod, &objects);
        let config = Configuration::parse(&text, Path::new("config.json"), Config::for_drivers()).unwrap().core;
        let limits = driver(&pod).resources.as_ref().and_then(|resources| resources.limits.as_ref()).unwrap();
        let limit = quantity::parse(&limits["memory"].0).unwrap();
        // A worker has two processes.
        let workers = u64::try_from(Bounds::of(config.worker.uids).total).unwrap() * 2 * config.worker.memory;
        assert!(limit >= workers + (256 << 20), "{name}: {limit} bytes for workers of {workers}");
        assert!(!limits.contains_key("cpu"), "{name}: throttling a fetch delays pods");
    }
}

#[test]
fn only_the_mounting_container_is_privileged() {
    for (name, objects) in deployments() {
        let deployment = objects.iter().find_map(Object::get::<Deployment>);
        let controller = deployment.and_then(|deployment| deployment.spec.template.spec);
        for pod in [daemon_set(&objects)].iter().chain(&controller) {
            assert!(!pod.host_network.unwrap_or(false) && !pod.host_pid.unwrap_or(false), "{name}");
            for container in &pod.containers {
                let context = container.security_context.as_ref().unwrap();
                let mounts = container.volume_mounts.iter().flatten();
                let propagates =
                    mounts.into_iter().any(|mount| mount.mount_propagation.as_deref() == Some("Bidirectional"));
                assert_eq!(context.privileged.unwrap_or(false), propagates, "{name}: {}", container.name);
                assert_eq!(context.allow_privilege_escalation, (!propagates).then_some(false), "{name}");
            }
        }
    }
}

#[test]
fn the_controller_is_unprivileged_and_only_the_provisioner_has_a_token() {
    let place = TempDir::new().unwrap();
    let mut controllers = 0;
    for (name, objects) in deployments() {
        let Some(deployment) = objects.iter().find_map(Object::get::<Deployment>) else { continue };
        controllers += 1;
        let spec = deployment.spec;
        assert_eq!(spec.replicas, Some(2), "{name}");
        let pod = spec.template.spec.unwrap();
        let container = driver(&pod);
        let words = command_line(container, &configuration(&pod, &objects), &place);
        let arguments = Arguments::try_parse_from(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
        let settings = Settings::read(&arguments).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(arguments.mode, Mode::Controller, "{name}");
        let user = pod.security_context.as_ref().unwrap();
        assert!(user.run_as_non_root == Some(true) && user.run_as_user != Some(0), "{name}");

        let provisioner = pod.containers.iter().find(|container| container.name == "csi-provisioner").unwrap();
        let socket = settings.endpoint.path();
        let arguments = provisioner.args.as_ref().unwrap();
        assert!(arguments.contains(&format!("--csi-address={}", socket.display())), "{name}");
        assert!(arguments.contains(&"--leader-election".to_owned()), "{name}");
        let shared = &mount(container, "socket").mount_path;
        assert_eq!(shared, &mount(provisioner, "socket").mount_path, "{name}");
        // Other containers may write to an emptyDir: the driver trusts only its own directory in it.
        assert!(socket.parent().unwrap().parent() == Some(Path::new(shared)), "{name}");
        assert!(settings.config.store.parent() == Some(Path::new(&mount(container, "data").mount_path)), "{name}");
        mount(provisioner, "token");
        assert!(container.volume_mounts.iter().flatten().all(|mount| mount.name != "token"), "{name}");
    }
    assert!(controllers > 0);
}

/// The API server refuses objects without an installed definition.
#[test]
fn no_overlay_needs_custom_resources() {
    for directory in manifests::kustomizations() {
        let Some(yaml) = manifests::render(&directory) else { return };
        for object in manifests::parse(&yaml).unwrap() {
            assert_ne!(object.kind(), "ServiceMonitor", "{}", directory.display());
        }
    }
}

#[test]
fn all_objects_of_the_controller_are_in_the_namespace_of_its_overlay() {
    let Some(yaml) = manifests::render(&workspace().join("deploy/csi/overlays/controller")) else { return };
    let namespaces = |objects: &[Object]| -> BTreeSet<String> {
        let of_subjects = objects.iter().filter_map(|object| object.field("/subjects/0/namespace"));
        let own = objects.iter().filter_map(|object| object.field("/metadata/namespace"));
        own.chain(of_subjects).map(|namespace| namespace.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(namespaces(&manifests::parse(&yaml).unwrap()), BTreeSet::from(["kube-system".to_owned()]));
}

#[test]
fn the_capabilities_of_the_daemon_set_are_enough_to_publish_and_each_fetch_is_confined() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    if !require::tool("setpriv") {
        return;
    }
    let Some(yaml) = manifests::render(&workspace().join("deploy/csi/base")) else { return };
    let pod = daemon_set(&manifests::parse(&yaml).unwrap());
    let capabilities = driver(&pod).security_context.as_ref().and_then(|context| context.capabilities.clone()).unwrap();
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    let kept: Vec<_> =
        capabilities.add.unwrap().iter().map(|capability| format!("+{}", capability.to_lowercase())).collect();

    let program = program::executable("gitrepo-cli");
    let script = shell.home().join("with-fewer-capabilities");
    let line = format!(
        "#!/bin/sh\nexec setpriv --inh-caps=-all --bounding-set=-all,{} {} \"$@\"\n",
        kept.join(","),
        program.display()
    );
    fs::write(&script, line).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shell = shell.with_executable(script);

    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n").executable("bin/b", "#!/bin/sh\n"));
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let (shared, own) = (shell.target("shared"), shell.target("own"));
    let said = shell.mount(&url, &shared, &["--verbose"]).assert_success().stderr;
    assert!(said.contains("namespaces=true"), "{said}");
    shell.mount(&url, &own, &["--writable=copy", "--uid=1234", "--group=2345"]).assert_success();
    let found = fs::metadata(own.join("bin")).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&found), std::os::unix::fs::MetadataExt::gid(&found));
    let mode = std::os::unix::fs::MetadataExt::mode(&found) & 0o7777;
    assert_eq!((uid, gid, mode & 0o2770), (1234, 2345, 0o2770));
    for target in [&shared, &own] {
        shell.unmount(target).assert_success();
    }
    assert_eq!(shell.leftovers(), <[PathBuf; 0]>::default());
}
