"""The kubelet is killed in the middle of a clone: its successor mounts nothing twice, and removes deleted pods."""

import time

from harness.objects import csi, flex, pod
from harness.outcome import contains, equal

NEEDS_NODE = True


def run(c):
    c.slow_rate(6_000_000)
    path = f"/slow/as/kubelet-{time.time_ns()}/big.git"
    url = c.url("small")
    c.start(
        pod("csi-ro", csi(url)),
        pod("csi-rw", csi(url, read_only=False)),
        pod("flex-ro", flex(url)),
        pod("deleted", csi(url)),
    )
    c.shell("csi-rw", "echo kept > /v/new")
    c.apply(pod("during", csi(c.git + path)))
    c.until("the clone has begun", lambda: c.fetches(path), seconds=30)
    c.kill(c.pid("kubelet"))
    c.delete("pod", "deleted", wait="false")
    c.up()
    c.ready("during", seconds=180)
    c.delete("pod", "deleted", seconds=120)
    for name in ("csi-ro", "csi-rw", "flex-ro", "during"):
        equal(len(c.volume_mounts(c.uid(name))), 1, f"mounts of {name}")
    contains(c.shell("csi-rw", "cat /v/new"), "kept", "data written before the kill")
    equal(c.fetches(path), 1, "fetches of the repository that was being cloned")
