"""A privileged pod makes the readers' shared tree writable and changes it: the next publish is correct again."""

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
    change = "mount -o remount,rw,bind /v && echo changed >> /v/README.md; tail -n 1 /v/README.md"
    changed = c.shell("privileged", change)
    contains(changed, "changed", "a privileged pod may change its own mount")
    c.start(pod("next", csi(url, "v1")))
    equal(c.shell("next", "cat /v/README.md"), original, "the tree of the next pod")
    contains(c.shell("next", "touch /v/x"), "Read-only file system", "a write to the tree of the next pod")
