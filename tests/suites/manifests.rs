//! Kubernetes understands every manifest, and the programs that they run work.

use std::fs;
use std::path::Path;

use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;

mod csi;
mod examples;
mod installer;
mod mount_test;

#[test]
fn an_unknown_field_is_found() {
    let right = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, targetPort: http}]}\n";
    assert_eq!(manifests::parse(right).unwrap().len(), 1);
    let monitor = "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: a}\n\
                   spec: {selector: {matchLabels: {a: b}}, endpoints: []}\n";
    assert_eq!(manifests::parse(monitor).unwrap().len(), 1);
    assert!(manifests::parse(&monitor.replace("matchLabels", "matchLabel")).is_err());
    let wrong = [
        ("port: 80", "prt: 80"),
        ("port: 80", "port: eighty"),
        ("spec:", "specs:"),
        ("kind: Service", "kind: Servce"),
        ("apiVersion: v1", "apiVersion: v1beta1"),
        ("{name: a}", "{name: a, labls: {a: b}}"),
    ];
    for (right_part, wrong_part) in wrong {
        assert!(manifests::parse(&right.replace(right_part, wrong_part)).is_err(), "{wrong_part}");
    }
}

#[test]
fn every_kustomization_is_understood() {
    let kustomizations = manifests::kustomizations();
    assert!(kustomizations.iter().any(|directory| directory.ends_with("flexvolume/base")), "{kustomizations:?}");
    for directory in kustomizations {
        let Some(yaml) = manifests::render(&directory) else { return };
        check(&yaml, &directory);
    }
}

#[test]
fn every_component_is_understood_over_its_base_and_together_with_the_others() {
    let components = manifests::components();
    assert!(components.iter().any(|directory| directory.ends_with("csi/components/sidecars")), "{components:?}");
    let base = workspace().join("deploy/csi/base");
    for component in &components {
        let Some(yaml) = manifests::render_with(&base, std::slice::from_ref(component)) else { return };
        check(&yaml, component);
    }
    check(&manifests::render_with(&base, &components).unwrap(), &base);
}

fn check(yaml: &str, directory: &Path) {
    let objects = manifests::parse(yaml).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    assert!(!objects.is_empty(), "{}", directory.display());
    for object in objects {
        check_pods(&object);
    }
}

#[test]
fn every_manifest_of_the_tests_is_understood() {
    let mut files = 0;
    for entry in fs::read_dir(workspace().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files += 1;
            let objects = manifests::parse(&fs::read_to_string(&path).unwrap());
            assert!(objects.is_ok_and(|objects| !objects.is_empty()), "{}", path.display());
        }
    }
    assert!(files >= 2);
}

/// Asserts that pods that run as root on the node have no more rights than they need.
fn check_pods(object: &Object) {
    let Some(pod) = object.field("/spec/template/spec") else { return };
    assert_eq!(pod["automountServiceAccountToken"], false, "{} has a token", object.name());
    for kind in ["containers", "initContainers"] {
        for container in pod[kind].as_array().into_iter().flatten() {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{} can write to its image", container["name"]);
            assert_eq!(context["capabilities"]["drop"][0], "ALL", "{} keeps capabilities", container["name"]);
            assert!(container["resources"]["requests"].is_object(), "{} has no resource requests", container["name"]);
        }
    }
}
