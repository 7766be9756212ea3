"""A pod is deleted in the middle of a slow clone: pod and clone soon disappear, and nothing is left."""

import time

from harness.objects import csi, pod

NEEDS_NODE = True
# Otherwise the clone would take three minutes: 64 MB at 400 kB/s.
ENDED = 60


def run(c):
    c.slow_rate(400_000)
    path = f"/slow/as/deleted-{time.time_ns()}/big.git"
    c.apply(pod("slow", csi(c.git + path)))
    c.until("the clone has begun", lambda: c.fetches(path), seconds=30)
    c.delete("pod", "slow", seconds=240)
    c.until("the clone has ended", lambda: c.fetches_ended(path) == c.fetches(path), seconds=ENDED)
