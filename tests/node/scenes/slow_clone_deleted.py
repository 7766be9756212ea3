"""A pod is deleted in the middle of a slow clone: it goes soon, the clone ends, and nothing is left."""

import time

from harness.objects import csi, pod
from harness.outcome import check

NEEDS_NODE = True
# Left alone, the clone would take three minutes: 64 MB at 400 kB/s.
GONE = 60


def run(c):
    c.slow_rate(400_000)
    path = f"/slow/as/deleted-{time.time_ns()}/big.git"
    c.apply(pod("slow", csi(c.git + path)))
    c.until("the clone has begun", lambda: c.fetches(path), seconds=30)
    deleted = time.monotonic()
    c.delete("pod", "slow", seconds=240)
    seconds = time.monotonic() - deleted
    c.until("the clone has ended", lambda: c.fetches_ended(path) == c.fetches(path), seconds=60)
    check(seconds < GONE, f"the deleted pod was there for {seconds:.0f} s")
