"""The driver is updated in the middle of a slow clone: pods keep their volumes, and the clone finishes."""

import time

from harness.make import make
from harness.objects import csi, pod
from harness.outcome import check, contains, equal

NEEDS_NODE = True


def run(c):
    # 64 MB in about 16 seconds.
    c.slow_rate(4_000_000)
    path = f"/slow/as/update-{time.time_ns()}/big.git"
    c.start(pod("before-ro", csi(c.url("small"))), pod("before-rw", csi(c.url("small"), read_only=False)))
    c.shell("before-rw", "echo kept > /v/new")
    c.apply(pod("during", csi(c.git + path)))
    c.until("the clone has begun", lambda: c.fetches(path), seconds=30)
    old = c.driver_pod()
    try:
        make("deploy-csi", TAG="next")
        c.until("the old driver is gone", lambda: not c.in_namespace("kube-system").get("pod", old), seconds=60)
        for name in ("before-ro", "before-rw"):
            contains(c.shell(name, "cat /v/README.md"), "test repository", f"{name} during the update")
        c.wait_for_driver()
        c.ready("during", seconds=180)
        contains(c.shell("during", "ls /v"), "d7", "the clone during which the driver was updated")
        contains(c.shell("before-rw", "cat /v/new"), "kept", "data written before the update")
        c.start(pod("after", csi(c.url("small"))))
        c.delete("pod", "before-ro", seconds=90)
        new = c.in_namespace("kube-system").get("pod", c.driver_pod())
        check(new["spec"]["containers"][0]["image"].endswith(":next"), "the driver was not updated")
        equal(len(c.volume_mounts(c.uid("during"))), 1, "mounts of the volume that was cloned during the update")
    finally:
        make("deploy-csi", "wait-csi")
