"""A privileged pod cannot change the tree that it shares with other readers: an image is read-only below its mounts."""

import time

from harness.objects import csi, pod
from harness.outcome import contains, equal

NEEDS_NODE = True


def run(c):
    # Its own snapshot, which no other scene shares.
    url = f"{c.git}/as/shared-{time.time_ns()}/small.git"
    c.start(
        pod("reader", csi(url, "v1")),
        pod("privileged", csi(url, "v1"), container={"securityContext": {"privileged": True}}),
    )
    original = c.shell("reader", "cat /v/README.md")
    for flags in ("remount,rw,bind", "remount,rw"):
        change = f"mount -o {flags} /v; echo changed >> /v/README.md; cat /v/README.md"
        changed = c.shell("privileged", change)
        contains(changed, "Read-only file system", f"a change after mount -o {flags}")
        equal(changed.endswith(original), True, f"the tree is as it was after mount -o {flags}")
    c.start(pod("next", csi(url, "v1")))
    for name in ("reader", "next"):
        equal(c.shell(name, "cat /v/README.md"), original, f"the tree of {name}")
    contains(c.shell("next", "touch /v/x"), "Read-only file system", "a write to the tree of the next pod")
