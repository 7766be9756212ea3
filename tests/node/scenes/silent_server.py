"""A server that accepts and never answers: an event says so within 15 s, and a deleted pod is soon gone."""

import time

from harness.objects import csi, pod
from harness.outcome import check

# The driver's own silence is 15 s at most; the rest is the API server's and ours.
FIRST_EVENT = 20
# A kubelet that waits for its own publish call cannot unpublish.
GONE = 40


def run(c):
    c.apply(pod("waits", csi(f"{c.git}/silent/small.git")))
    c.event("waits", c.host, seconds=FIRST_EVENT)
    deleted = time.monotonic()
    c.delete("pod", "waits", seconds=180)
    seconds = time.monotonic() - deleted
    check(seconds < GONE, f"the deleted pod was there for {seconds:.0f} s")
