"""Kubernetes objects for the scenes."""

CSI = "csi.gitrepo.internal"
FLEX = "piersharding/gitrepo"
# The image of the project's examples, so that a user's cluster has or gets it.
IMAGE = "docker.io/library/busybox:1.37"
STAY = "trap exit TERM; while :; do sleep 1; done"


def csi(repository, revision="main", read_only=True, secret=None, **attributes):
    """A pod volume of the CSI driver. `read_only=None` leaves the field out."""
    source = {
        "driver": CSI,
        "volumeAttributes": {"repository": repository, "revision": revision, "directory": ".", **attributes},
    }
    if read_only is not None:
        source["readOnly"] = read_only
    if secret:
        source["nodePublishSecretRef"] = {"name": secret}
    return {"csi": source}


def flex(repository, revision="main", read_only=True, secret=None, **options):
    """A pod volume of the FlexVolume driver."""
    source = {
        "driver": FLEX,
        "readOnly": read_only,
        "options": {"repo": repository, "revision": revision, **options},
    }
    if secret:
        source["secretRef"] = {"name": secret}
    return {"flexVolume": source}


def claim(name, read_only=False):
    """A pod volume of a claim."""
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": read_only}}


def pod(name, volume, command=STAY, *, mount=None, container=None, **spec):
    """A pod with one container `c` that has the volume on /v. `mount` and `container` are added to them."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "c",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", command],
                    "volumeMounts": [{"name": "v", "mountPath": "/v", **(mount or {})}],
                    **(container or {}),
                }
            ],
            "volumes": [{"name": "v", **volume}],
            **spec,
        },
    }


def secret(name, kind="Opaque", **data):
    """A Secret; pass a key with a dot or hyphen as `data={...}`."""
    data = data.pop("data", {}) | data
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data}


def persistent_volume(name, namespace, mode, repository, **more):
    """A PersistentVolume of the CSI driver and a claim of the same name that is bound to it."""
    common = {"accessModes": [mode], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": common
        | {
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": name},
            "csi": {
                "driver": CSI,
                "volumeHandle": name,
                "volumeAttributes": {"repository": repository, "revision": "main", "directory": ".", **more},
            },
        },
    }
    bound = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": common | {"volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [volume, bound]
