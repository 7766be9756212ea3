"""A pod with its own users (`hostUsers: false`) reads and writes its volumes, and its root is not the node's."""

import os

from harness.node import Node
from harness.objects import csi, flex, pod
from harness.outcome import Skipped, check, equal

NEEDS_NODE = True
WORDS = "cat /proc/self/uid_map; find /v -type f -exec cat {} + >/dev/null && echo read"


def run(c: Node):
    if int(os.environ["KUBERNETES"].split(".")[1]) < 33:
        raise Skipped("kubelets give pods their own users since 1.33")
    volumes = {
        "csi-read": csi(c.url("small")),
        # An overlay until the kubelet has made the user namespace; then a copy.
        "csi-overlay": csi(c.url("small"), read_only=False),
        "csi-copy": csi(c.url("small"), read_only=False, writable="copy"),
        "flex-read": flex(c.url("small")),
        "flex-copy": flex(c.url("small"), read_only=False, writable="copy"),
    }
    # As the documentation says of overlays of the FlexVolume driver, which does not run in between.
    c.apply(pod("overlay", flex(c.url("small"), read_only=False), hostUsers=False))
    c.start(*(pod(name, volume, hostUsers=False) for name, volume in volumes.items()))
    c.event("overlay", "idmap")
    for name in volumes:
        first, *_, last = c.shell(name, WORDS).splitlines()
        equal(last, "read", f"{name}: the volume's file")
        inside, outside, _ = map(int, first.split())
        equal(inside, 0, f"{name}: {first}")
        check(outside >= 65536, f"{name} has the node's users: {first}")
        if name.endswith("-read"):
            check("Read-only file system" in c.shell(name, "touch /v/new 2>&1 || true"), f"{name} can be written")
            continue
        c.shell(name, "echo new > /v/new && chmod 4755 /v/new")
        (mount,) = c.volume_mounts(c.uid(name))
        found = os.stat(f"{mount}/new")
        equal((found.st_uid, oct(found.st_mode & 0o7777)), (0, "0o4755"), f"{name}: the file that the pod's root made")
