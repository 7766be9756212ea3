//! The containers of `deploy/flexvolume`, run outside a cluster like inside one.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::program;
use gitrepo_tests::program::Program;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::core::v1::Probe;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::install::wait_until;

/// The files of the node and the image, as a container sees them.
struct Root {
    directory: TempDir,
    mounts: Vec<PathBuf>,
}

impl Root {
    /// A directory for each mount, with the files of ConfigMaps.
    fn new(pod: &PodSpec, container: &Container, objects: &[Object]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let volume = volume.unwrap_or_else(|| panic!("nothing is mounted on {}", mount.mount_path));
            let place = directory.path().join(mount.mount_path.trim_start_matches('/'));
            fs::create_dir_all(&place).unwrap();
            if let Some(source) = &volume.config_map {
                let maps = objects.iter().filter_map(Object::get::<ConfigMap>);
                let map = maps.into_iter().find(|map| map.metadata.name == Some(source.name.clone()));
                for (name, content) in map.expect("the ConfigMap is there").data.unwrap() {
                    fs::write(place.join(name), content).unwrap();
                }
            }
            mounts.push(PathBuf::from(&mount.mount_path));
        }
        Self { directory, mounts }
    }

    /// A word of a command line or a variable's value, with paths below a mount translated.
    fn translate(&self, word: &str) -> String {
        if self.mounts.iter().any(|mount| Path::new(word).starts_with(mount)) {
            return format!("{}{word}", self.directory.path().display());
        }
        word.to_owned()
    }

    fn program(&self, container: &Container) -> Program {
        let set = container.env.iter().flatten();
        set.fold(Program::new(program::executable("gitrepo-flex-install")), |program, variable| {
            program.env(&variable.name, self.translate(variable.value.as_deref().unwrap()))
        })
    }

    /// A command without its first word, the program in the image.
    fn arguments(&self, command: &[String]) -> Vec<String> {
        assert_eq!(command.first().map(String::as_str), Some("/bin/gitrepo-flex-install"));
        command[1..].iter().map(|word| self.translate(word)).collect()
    }
}

fn probe(probe: Option<&Probe>) -> Option<&[String]> {
    probe?.exec.as_ref()?.command.as_deref()
}

fn value<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|variable| variable.name == name)?.value.as_deref()
}

/// Every DaemonSet below `deploy/flexvolume`, with the objects rendered together with it.
fn installers() -> Vec<(PathBuf, PodSpec, Vec<Object>)> {
    let mut rendered = Vec::new();
    for directory in manifests::kustomizations() {
        if !directory.components().any(|part| part.as_os_str() == "flexvolume") {
            continue;
        }
        let Some(yaml) = manifests::render(&directory) else { return Vec::new() };
        rendered.push((directory, yaml));
    }
    let example = workspace().join("deploy/flexvolume/overlays/example");
    let uncommented = manifests::render_uncommented(&example).unwrap();
    assert!(uncommented.contains("/usr/libexec/k0s/kubelet-plugins/volume/exec"), "{uncommented}");
    rendered.push((example.join("uncommented"), uncommented));
    let installer = |(directory, yaml): (PathBuf, String)| {
        let objects = manifests::parse(&yaml).unwrap();
        let daemon_set = objects.iter().find_map(Object::get::<DaemonSet>).unwrap();
        (directory, daemon_set.spec.template.spec.unwrap(), objects)
    };
    rendered.into_iter().map(installer).collect()
}

#[test]
fn the_daemon_set_installs_the_driver_and_its_probes_detect_that() {
    for (directory, pod, objects) in installers() {
        let [container] = &pod.containers[..] else { panic!("one container") };
        let root = Root::new(&pod, container, &objects);
        let program = root.program(container);
        let command = [container.command.clone().unwrap(), container.args.clone().unwrap()].concat();
        let name = directory.display();
        let probes = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
        let probes: Vec<_> = probes.into_iter().filter_map(|given| probe(given.as_ref())).collect();
        let vendor = value(container, "GITREPO_FLEX_VENDOR").unwrap();
        let driver = value(container, "GITREPO_FLEX_DRIVER").unwrap();
        let installed = root.directory.path().join(format!("plugins/{vendor}~{driver}/{driver}"));
        let uninstalls = command.contains(&"uninstall".to_owned());
        if uninstalls {
            fs::create_dir(installed.parent().unwrap()).unwrap();
            fs::write(&installed, "a driver").unwrap();
        }

        let running = program.spawn(root.arguments(&command));
        if uninstalls {
            assert!(probes.is_empty(), "{name}");
            wait_until("uninstalled", || !installed.parent().unwrap().exists());
        } else {
            assert_eq!(probes.len(), 3, "{name}");
            for probe in &probes {
                wait_until("ready", || program.run(root.arguments(probe)).status.success());
            }
            assert!(installed.is_file(), "{name}");
        }
        running.signal(Signal::SIGTERM);
        running.wait().assert_success();
        for probe in &probes {
            fs::write(&installed, "another").unwrap();
            program.run(root.arguments(probe)).assert_code(1);
        }
    }
}

#[test]
fn the_kubelets_directories_have_the_same_path_in_the_container() {
    for (directory, pod, _) in installers() {
        let [container] = &pod.containers[..] else { panic!("one container") };
        let mounted = |name: &str| {
            let mounts = container.volume_mounts.as_ref().unwrap();
            &mounts.iter().find(|mount| mount.name == name).unwrap().mount_path
        };
        let host = |name: &str| {
            let volumes = pod.volumes.as_ref().unwrap();
            let volume = volumes.iter().find(|volume| volume.name == name).unwrap();
            &volume.host_path.as_ref().unwrap().path
        };
        // Records contain paths of the node.
        for name in ["store", "pods"] {
            assert_eq!(mounted(name), host(name), "{}", directory.display());
        }
        let kubelet = value(container, "GITREPO_FLEX_KUBELET_DIR").unwrap_or("/var/lib/kubelet");
        assert_eq!(*mounted("pods"), format!("{kubelet}/pods"), "{}", directory.display());
    }
}
