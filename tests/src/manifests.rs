//! Kubernetes objects as YAML, read as the API server reads them: by their types, refusing unknown fields.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::api::storage::v1::CSIDriver;
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::require;

mod prometheus;

/// An object as written, whose type knows all its fields.
#[derive(Debug, Clone)]
pub struct Object(Value);

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    /// The object, if it has this type.
    pub fn get<T: Resource + DeserializeOwned>(&self) -> Option<T> {
        let is_one = (T::API_VERSION, T::KIND) == (self.0["apiVersion"].as_str()?, self.kind());
        is_one.then(|| serde_json::from_value(self.0.clone()).unwrap())
    }

    /// The value of a field, by its JSON pointer (RFC 6901).
    pub fn field(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }
}

/// The objects of a YAML text, or an error message.
pub fn parse(yaml: &str) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).map_err(|error| error.to_string())?;
        if value.is_null() {
            continue;
        }
        check(&value).map_err(|error| format!("{} {}: {error}", value["kind"], value["metadata"]["name"]))?;
        objects.push(Object(value));
    }
    Ok(objects)
}

fn check(value: &Value) -> Result<(), String> {
    let kind = (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
    let known = [
        known::<ClusterRole>(),
        known::<ClusterRoleBinding>(),
        known::<ConfigMap>(),
        known::<CSIDriver>(),
        known::<DaemonSet>(),
        known::<Deployment>(),
        known::<Ingress>(),
        known::<Namespace>(),
        known::<NetworkPolicy>(),
        known::<PersistentVolume>(),
        known::<PersistentVolumeClaim>(),
        known::<Pod>(),
        known::<Role>(),
        known::<RoleBinding>(),
        known::<Secret>(),
        known::<Service>(),
        known::<ServiceAccount>(),
        known::<StorageClass>(),
        // From the Prometheus operator, not from Kubernetes.
        (("monitoring.coreos.com/v1", "ServiceMonitor"), prometheus::check_service_monitor),
    ];
    let (_, check) =
        known.iter().find(|(known, _)| *known == kind).ok_or_else(|| format!("{kind:?} is not known here"))?;
    check(value)
}

type Check = fn(&Value) -> Result<(), String>;

fn known<T: Resource + Serialize + DeserializeOwned>() -> ((&'static str, &'static str), Check) {
    ((T::API_VERSION, T::KIND), check_type::<T>)
}

/// The types ignore unknown fields, so a round trip must reproduce the text.
fn check_type<T: Serialize + DeserializeOwned>(value: &Value) -> Result<(), String> {
    let object: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let mut lost = BTreeSet::new();
    compare("", value, &serde_json::to_value(object).unwrap(), &mut lost);
    if lost.is_empty() { Ok(()) } else { Err(format!("unknown or misread: {lost:?}")) }
}

fn compare(path: &str, written: &Value, read: &Value, lost: &mut BTreeSet<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (name, written) in written {
                compare(&format!("{path}/{name}"), written, read.get(name).unwrap_or(&Value::Null), lost);
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (at, (written, read)) in written.iter().zip(read).enumerate() {
                compare(&format!("{path}/{at}"), written, read, lost);
            }
        }
        // To the API server an empty object and a missing one are the same.
        (Value::Object(written), Value::Null) if written.is_empty() => {}
        _ if written == read => {}
        _ => drop(lost.insert(path.to_owned())),
    }
}

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where tests/setup.sh installs tools that Debian does not package.
pub fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// The rendered kustomization of a directory; `None` without kustomize or kubectl.
pub fn render(directory: &Path) -> Option<String> {
    let kustomize = [tools().join("kustomize")].into_iter().find(|path| path.is_file());
    let (program, word) = match (kustomize.or_else(|| require::find("kustomize")), require::find("kubectl")) {
        (Some(kustomize), _) => (kustomize, "build"),
        (None, Some(kubectl)) => (kubectl, "kustomize"),
        (None, None) => {
            require::tool("kustomize");
            return None;
        }
    };
    let output = Command::new(program).arg(word).arg(directory).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", directory.display());
    assert!(complaints.is_empty(), "{}: {complaints}", directory.display());
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The directories below `deploy/` that contain a kustomization to be rendered by itself.
pub fn kustomizations() -> Vec<PathBuf> {
    below_deploy("Kustomization")
}

/// The directories below `deploy/` that contain a component: an addition to a kustomization.
pub fn components() -> Vec<PathBuf> {
    below_deploy("Component")
}

/// A kustomization with components, rendered as by [`render`]. All are directories below `deploy/`.
pub fn render_with(base: &Path, components: &[PathBuf]) -> Option<String> {
    // Kustomize accepts no absolute path, and none that leads through a link.
    let place = TempDir::new_in(workspace().join("target")).unwrap();
    let relative = |path: &Path| format!("../../{}", path.strip_prefix(workspace()).unwrap().display());
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(base)],
        "components": components.iter().map(|component| relative(component)).collect::<Vec<_>>(),
    });
    std::fs::write(place.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    render(place.path())
}

/// An overlay with the commented-out parts of its `daemonset.yaml`, rendered as by [`render`]: they must be valid,
/// because users uncomment them. The overlay is `deploy/<driver>/overlays/<name>`.
pub fn render_uncommented(overlay: &Path) -> Option<String> {
    let place = TempDir::new_in(workspace().join("target")).unwrap();
    let driver = overlay.parent().and_then(Path::parent).unwrap().strip_prefix(workspace()).unwrap();
    for entry in std::fs::read_dir(overlay).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = match path.file_name().and_then(|name| name.to_str()).unwrap() {
            "daemonset.yaml" => text.lines().map(uncomment).collect(),
            _ => text.replace("- ../../", &format!("- ../../{}/", driver.display())),
        };
        std::fs::write(place.path().join(path.file_name().unwrap()), text).unwrap();
    }
    render(place.path())
}

/// Uncomments a line of YAML (a key or a list entry); returns any other line unchanged.
fn uncomment(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let yaml = line.trim_start().strip_prefix("# ").filter(|rest| {
        let key = rest.trim_start().trim_start_matches("- ").split(':').next().unwrap_or_default();
        rest.contains(':') && !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '$')
    });
    yaml.map_or_else(|| format!("{line}\n"), |yaml| format!("{}{yaml}\n", &line[..indent]))
}

fn below_deploy(kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![workspace().join("deploy")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.ends_with("kustomization.yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                if text.lines().any(|line| line == format!("kind: {kind}")) {
                    found.push(directory.clone());
                }
            }
        }
    }
    found.sort();
    found
}
