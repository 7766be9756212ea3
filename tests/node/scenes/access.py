"""Which pods may write: every kind of pod, with read-only and writable inline volumes."""

from harness.objects import STAY, csi, pod
from harness.outcome import check, contains, equal

USER = {"runAsUser": 1000, "runAsGroup": 1000}
GROUP = USER | {"fsGroup": 2000}
README = "A test repository of the node."
WRITE = "echo written > /v/new && cat /v/new"
OVERWRITE = "echo written > /v/README.md && cat /v/README.md"
REFUSED = ("Read-only file system", "Permission denied")


def writable(c, name):
    contains(c.shell(name, WRITE), "written", f"{name} makes a file")


def refused(c, name, script=WRITE):
    said = c.shell(name, script)
    check(any(reason in said for reason in REFUSED), f"{name} wrote, by {script!r}: {said}")


def read_only(c, name):
    contains(c.shell(name, "cat /v/README.md"), README, f"{name} reads")
    for script in (WRITE, OVERWRITE, "rm /v/README.md", "chmod 777 /v/README.md", "mkdir /v/d"):
        refused(c, name, script)
    contains(c.shell(name, "cat /v/README.md"), README, f"{name} still reads the same content")


def has_user_namespaces(c):
    """Whether every node supports it: kubelets from 1.33 on do by default."""
    versions = [node["status"]["nodeInfo"]["kubeletVersion"] for node in c.get("nodes")]
    return all(int(version.split(".")[1]) >= 33 for version in versions)


def run(c):
    url = c.url("small")
    ro, rw = csi(url), csi(url, read_only=False)
    # An overlay cannot be id-mapped.
    copy = csi(url, read_only=False, writable="copy")
    pods = [
        pod("read-only", ro),
        pod("writable", rw),
        # The defaults: writable, in a directory named after the repository.
        pod("omitted", {"csi": {"driver": "csi.gitrepo.internal", "volumeAttributes": {"repository": url}}}),
        pod("writable-user", rw, securityContext=USER),
        pod("writable-group", rw, securityContext=GROUP),
        pod("read-only-group", ro, securityContext=GROUP),
        pod("subpath", ro, mount={"subPath": "d0"}),
        pod("subpath-file", ro, mount={"subPath": "README.md"}),
        pod("subpath-writable", rw, mount={"subPath": "d0"}),
        pod("privileged", ro, container={"securityContext": {"privileged": True}}),
        two_containers(rw),
    ]
    namespaced = []
    if has_user_namespaces(c):
        namespaced = [
            pod("namespaced-read-only", ro, hostUsers=False),
            pod("namespaced-writable", copy, hostUsers=False),
            pod("namespaced-group", copy, hostUsers=False, securityContext=GROUP),
        ]
    c.start(*pods, *namespaced)

    read_only(c, "read-only")
    read_only(c, "read-only-group")
    for name in ("writable", "writable-group"):
        writable(c, name)
    # The root of the volume is everybody's. The files belong to root, and no group is set.
    writable(c, "writable-user")
    refused(c, "writable-user", OVERWRITE)
    equal(c.shell("writable-group", "stat -c %g /v/README.md").strip(), "2000", "group of a file of fsGroup")
    # Without a walk: an image of its own, over the same content.
    equal(c.shell("read-only-group", "stat -c %g /v/README.md").strip(), "2000", "group of a file of an image")
    contains(c.shell("omitted", "cat /v/small/README.md"), README, "the default directory")
    writing = "echo written > /v/small/new && cat /v/small/new"
    contains(c.shell("omitted", writing), "written", "the default is writable")
    for script in ("echo written > /v/new && cat /v/new", "echo written > /v/f0.txt && cat /v/f0.txt"):
        refused(c, "subpath", script)
        contains(c.shell("subpath-writable", script), "written", "a writable subPath")
    contains(c.shell("subpath-file", "cat /v"), README, "a file as subPath")
    refused(c, "subpath-file", "echo written >> /v")
    contains(c.shell("privileged", "cat /v/README.md"), README, "a privileged pod reads")
    refused(c, "privileged")
    # A pod's writes do not appear in another pod's copy or in the readers' shared tree.
    contains(c.shell("writable", OVERWRITE), "written", "writable changes a file")
    contains(c.shell("writable-user", "cat /v/README.md"), README, "another pod's file")
    for name in ("read-only", "privileged"):
        equal(c.shell(name, "ls /v/new 2>/dev/null"), "", f"{name} sees another pod's file")

    contains(c.shell("two", "cat /v/from-init"), "init", "the init container's file")
    contains(c.shell("two", "echo c > /v/from-c; cat /v/from-c"), "c", "the writing container")
    contains(c.shell("two", "cat /v/from-c", container="reader"), "c", "the reading container")
    contains(c.shell("two", "touch /v/x", container="reader"), REFUSED[0], "a read-only volumeMount")

    if namespaced:
        read_only(c, "namespaced-read-only")
        writable(c, "namespaced-writable")
        writable(c, "namespaced-group")


def two_containers(volume):
    """An init container that writes, a container that writes, and one with a read-only volumeMount."""
    two = pod("two", volume)
    containers = two["spec"]["containers"]
    init = dict(containers[0], name="init", command=["sh", "-c", "echo init > /v/from-init"])
    reader = dict(
        containers[0],
        name="reader",
        command=["sh", "-c", STAY],
        volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True}],
    )
    two["spec"]["initContainers"] = [init]
    containers.append(reader)
    return two
