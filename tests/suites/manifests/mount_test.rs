//! `make test`: the manifests with the names of the bash driver's test, over https and ssh.

use std::collections::BTreeSet;
use std::fs;

use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;

fn objects(file: &str) -> Vec<Object> {
    manifests::parse(&fs::read_to_string(workspace().join("tests").join(file)).unwrap()).unwrap()
}

fn names(objects: &[Object]) -> BTreeSet<(&str, &str)> {
    objects.iter().map(|object| (object.kind(), object.name())).collect()
}

fn find<'a>(objects: &'a [Object], kind: &str) -> &'a Object {
    objects.iter().find(|object| object.kind() == kind).unwrap()
}

#[test]
fn mount_test_has_the_bash_drivers_names() {
    let objects = objects("mount-test.yaml");
    let expected = [
        ("StorageClass", "gitrepo"),
        ("PersistentVolume", "pv-flex-gitrepo-0001"),
        ("PersistentVolumeClaim", "gitrepo-data"),
        ("ConfigMap", "gitrepo-test"),
        ("Deployment", "nginx-deployment1"),
        ("Deployment", "nginx-deployment2"),
        ("Service", "nginx1"),
        ("Service", "nginx2"),
        ("Ingress", "gitrepo-test"),
    ];
    assert_eq!(names(&objects), BTreeSet::from(expected));
    for deployment in objects.iter().filter(|object| object.kind() == "Deployment") {
        assert_eq!(deployment.field("/spec/replicas").unwrap(), 3);
        let claim = "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName";
        assert_eq!(deployment.field(claim).unwrap(), "gitrepo-data");
    }
    let volume = find(&objects, "PersistentVolume");
    assert_eq!(volume.field("/spec/flexVolume/driver").unwrap(), "piersharding/gitrepo");
    assert_eq!(volume.field("/spec/flexVolume/options/hostTarget").unwrap(), "/data/images");
}

#[test]
fn mount_test_over_ssh_differs_only_by_its_secret() {
    let (https, ssh) = (objects("mount-test.yaml"), objects("mount-test-ssh.yaml"));
    let more: Vec<_> = names(&ssh).difference(&names(&https)).copied().collect();
    assert_eq!(more, [("Secret", "gitrepo-ssh")]);
    let (secret, volume) = (find(&ssh, "Secret"), find(&ssh, "PersistentVolume"));
    // The kubelet does not pass on a Secret of any other type: pkg/volume/util, GetSecretForPV.
    assert_eq!(secret.field("/type"), volume.field("/spec/flexVolume/driver"));
    assert_eq!(volume.field("/spec/flexVolume/secretRef/name").unwrap(), secret.name());
    assert!(secret.field("/stringData/sshKey").is_some());
    for object in &https {
        let same = |other: &&Object| other.kind() == object.kind() && other.name() == object.name();
        let other = ssh.iter().find(same).unwrap();
        assert!(object.kind() == "PersistentVolume" || object.field("") == other.field(""), "{}", object.name());
    }
}
