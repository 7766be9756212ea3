//! `deploy/csi/examples`: the driver accepts the examples that users copy.

use std::collections::BTreeMap;
use std::fs;

use gitrepo_core::credentials::SecretKey;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_csi::context;
use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use serde_json::Value;

const DRIVER: &str = "csi.gitrepo.internal";

const EXAMPLES: [&str; 6] =
    ["inline-public", "inline-https", "inline-ssh", "persistent-volume", "storage-class", "storage-class-private"];

/// Examples with a Secret in `<name>-secret.yaml`.
const WITH_SECRET: [&str; 3] = ["inline-https", "inline-ssh", "storage-class-private"];

fn read(name: &str) -> Vec<Object> {
    let path = workspace().join(format!("deploy/csi/examples/{name}.yaml"));
    manifests::parse(&fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn examples() -> Vec<(&'static str, Vec<Object>)> {
    let files = fs::read_dir(workspace().join("deploy/csi/examples")).unwrap().count();
    assert_eq!(files, EXAMPLES.len() + WITH_SECRET.len(), "an example is not tested");
    EXAMPLES.into_iter().map(|name| (name, read(name))).collect()
}

/// Applying an example must not replace the Secret that its reader just made with a placeholder.
#[test]
fn secrets_have_their_own_files() {
    for (name, objects) in examples() {
        assert!(objects.iter().all(|object| object.kind() != "Secret"), "{name}");
    }
    for name in WITH_SECRET {
        let objects = read(&format!("{name}-secret"));
        assert!(objects.iter().all(|object| object.kind() == "Secret") && objects.len() == 1, "{name}");
    }
}

fn text(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The volumes of a pod, or of the pods of a Deployment.
fn volumes(object: &Object) -> Vec<Value> {
    let volumes = object.field("/spec/volumes").or_else(|| object.field("/spec/template/spec/volumes"));
    volumes.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The attributes or parameters of every volume in `object`.
fn attributes(object: &Object) -> Vec<BTreeMap<String, String>> {
    let of_volume = |csi: &Value| {
        assert_eq!(csi["driver"], DRIVER, "{}", object.name());
        text(&csi["volumeAttributes"])
    };
    match object.kind() {
        "PersistentVolume" => object.field("/spec/csi").map(of_volume).into_iter().collect(),
        "StorageClass" => {
            assert_eq!(object.field("/provisioner").unwrap(), DRIVER);
            object.field("/parameters").map(text).into_iter().collect()
        }
        _ => volumes(object).iter().filter_map(|volume| volume.get("csi")).map(of_volume).collect(),
    }
}

#[test]
fn the_driver_accepts_every_volume() {
    for (name, objects) in examples() {
        let mut found = 0;
        for attributes in objects.iter().flat_map(attributes) {
            found += 1;
            let own = context::own(attributes.into_iter().collect());
            let spec = VolumeSpec::from_attributes(&own, DefaultDirectory::BaseName);
            assert!(spec.is_ok(), "{name}: {:?}", spec.err());
        }
        assert!(found > 0, "{name} has no volume");
    }
}

#[test]
fn the_driver_accepts_the_class_of_the_overlay() {
    let text = fs::read_to_string(workspace().join("deploy/csi/overlays/controller/storageclass.yaml")).unwrap();
    for attributes in manifests::parse(&text).unwrap().iter().flat_map(attributes) {
        VolumeSpec::from_attributes(&attributes, DefaultDirectory::BaseName).unwrap();
    }
}

#[test]
fn every_secret_that_a_volume_names_exists_and_has_known_keys() {
    let mut named = 0;
    for (name, objects) in examples() {
        let secrets = if WITH_SECRET.contains(&name) { read(&format!("{name}-secret")) } else { Vec::new() };
        for secret in &secrets {
            // Only the names: the values are placeholders, and an invalid key would be refused.
            for key in text(secret.field("/stringData").unwrap()).keys() {
                assert!(SecretKey::ALL.iter().any(|known| known.name() == key), "{name}: {key}");
            }
        }
        let is_there = |wanted: &Value| secrets.iter().any(|secret| *wanted == secret.name());
        for object in &objects {
            for volume in volumes(object) {
                if let Some(wanted) = volume.pointer("/csi/nodePublishSecretRef/name") {
                    named += 1;
                    assert!(is_there(wanted), "{name}: {wanted}");
                }
            }
            for (key, wanted) in object.field("/parameters").map(text).into_iter().flatten() {
                if key.ends_with("-secret-name") {
                    named += 1;
                    assert!(is_there(&wanted.into()), "{name}: {key}");
                }
            }
        }
    }
    assert!(named >= 4, "{named}");
}

/// With a read-only access mode alone, the driver refuses the volume: the kubelet passes on only the pod's `readOnly`.
#[test]
fn a_claim_for_readers_is_mounted_read_only() {
    let mut claims = 0;
    for (name, objects) in examples() {
        for claim in objects.iter().filter(|object| object.kind() == "PersistentVolumeClaim") {
            claims += 1;
            assert_eq!(claim.field("/spec/accessModes/0").unwrap(), "ReadOnlyMany", "{name}");
            let uses: Vec<_> = objects.iter().flat_map(volumes).collect();
            let mut uses = uses.iter().filter_map(|volume| volume.get("persistentVolumeClaim"));
            assert!(uses.all(|volume| volume["readOnly"] == true), "{name}");
        }
    }
    assert!(claims >= 2);
}
