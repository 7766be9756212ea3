"""Twenty pods start at once with the same commit: one fetch, and one snapshot for all."""

import time

from harness.objects import csi, pod
from harness.outcome import check, equal

PODS = 20


def run(c):
    # A name that no cache has.
    path = f"/as/burst-{time.time_ns()}/medium.git"
    pods = [pod(f"burst-{number}", csi(c.git + path, "v1")) for number in range(PODS)]
    c.start(*pods, seconds=180)
    # Device and inode: the same file for all pods of a node.
    files = {c.execute(f"burst-{number}", "stat", "-c", "%d:%i", "/v/README.md") for number in range(PODS)}
    nodes = {running["spec"]["nodeName"] for running in c.get("pods")}
    check(len(files) <= len(nodes), f"{len(files)} different files on {len(nodes)} nodes")
    equal(c.fetches(path), len(nodes), "fetches, one for each node")
