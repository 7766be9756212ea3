"""The driver is killed in the middle of a clone: mounted volumes stay, and its successor finishes the clone."""

import time

from harness.objects import csi, pod
from harness.outcome import check, contains

NEEDS_NODE = True


def run(c):
    # 64 MB in about ten seconds.
    c.slow_rate(6_000_000)
    path = f"/slow/as/killed-{time.time_ns()}/big.git"
    c.start(pod("before-ro", csi(c.url("small"))), pod("before-rw", csi(c.url("small"), read_only=False)))
    c.shell("before-rw", "echo kept > /v/new")
    c.apply(pod("during", csi(c.git + path)))
    c.until("the clone has begun", lambda: c.fetches(path), seconds=30)
    killed = c.driver_pid()
    c.kill(killed)
    contains(c.shell("before-ro", "cat /v/README.md"), "test repository", "a volume without its driver")
    contains(c.shell("before-rw", "cat /v/new"), "kept", "a writable volume without its driver")
    # The successor unpublishes and publishes.
    c.delete("pod", "before-ro", seconds=120)
    c.start(pod("after", csi(c.url("small"))), seconds=120)
    c.ready("during", seconds=180)
    contains(c.shell("during", "ls /v"), "d7", "the clone that was interrupted")
    contains(c.shell("before-rw", "cat /v/new"), "kept", "data written before the kill")
    check(c.driver_pid() != killed, "the driver was not killed")
