"""StorageClasses, with the real external provisioner: both examples, unchanged except for the secret's values."""

from harness.make import make
from harness.objects import claim, pod
from harness.outcome import contains, equal
from scenes.examples import manifest, secret_values

NEEDS_NODE = True


def run(c):
    c = c.in_namespace("default")
    public = manifest("storage-class.yaml")
    private = manifest("storage-class-private.yaml")
    secret = secret_values(c, manifest("storage-class-private-secret.yaml"))
    make("deploy-csi", "wait-csi", CSI_OVERLAY="deploy/csi/overlays/controller")
    system = c.in_namespace("kube-system")
    system.kubectl("rollout", "status", "deployment/gitrepo-csi-controller", "--timeout=120s", seconds=140)
    team = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "team"},
        "spec": {
            "storageClassName": "gitrepo-team",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    try:
        c.apply_text(public)
        c.apply_text(secret)
        c.apply_text(private)
        c.apply(team, pod("team", claim("team")))
        contains(c.ended("gitrepo-docs"), "README.md", "storage-class")
        c.ready("team")
        contains(c.shell("team", "echo own > /v/new; cat /v/new"), "own", "storage-class-private")
        volume = c.get("persistentvolumeclaim", "team")["spec"]["volumeName"]
        attributes = c.get("persistentvolume", volume)["spec"]["csi"]["volumeAttributes"]
        equal(len(attributes["revision"]), 40, "length of the commit that the volume is pinned to")
        # reclaimPolicy: Delete
        c.delete("pod", "team", "gitrepo-docs")
        c.delete("persistentvolumeclaim", "team", "gitrepo-docs")
        c.until("the provisioned volume is deleted", lambda: not c.get("persistentvolume", volume), seconds=60)
    finally:
        c.delete("pod", "team", "gitrepo-docs")
        c.delete("persistentvolumeclaim", "team", "gitrepo-docs")
        for text in (public, private, secret):
            c.delete_text(text)
        system.delete("deployment", "gitrepo-csi-controller")
        # Restore the base for the next scenes.
        make("deploy-csi", "wait-csi")
