"""A server that accepts and never answers: an event says so within 15 s, and deleting the pod soon ends the attempt."""

import time

from harness.objects import csi, pod

# 15 s, plus the time that the cluster needs to start the pod and to deliver the event.
FIRST_EVENT = 20
# A kubelet that waits for its own publish call cannot unpublish, so the driver must notice by itself.
ENDED = 30


def run(c):
    path = f"/silent/{time.time_ns()}/small.git"
    c.apply(pod("waits", csi(c.git + path)))
    c.event("waits", c.host, seconds=FIRST_EVENT)
    # The server logs a request once its client has disconnected.
    before = len(c.requests(path))
    c.delete("pod", "waits", seconds=180)
    c.until("the driver has given up", lambda: len(c.requests(path)) > before, seconds=ENDED)
