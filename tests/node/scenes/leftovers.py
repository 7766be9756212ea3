"""After all scenes: no volume record, mount, directory, worker or unfinished work is left, and cached trees can be
used."""

import os
import subprocess

from harness.node import STORE
from harness.objects import csi, pod
from harness.outcome import check, contains, equal

NEEDS_NODE = True


def workers():
    """Processes that fetch: no other processes use worker.uids."""
    done = subprocess.run(["pgrep", "-f", "gitrepo-(csi|flex|cli).*worker"], capture_output=True, text=True)
    return done.stdout.split()


def unfinished():
    return [f"{name}/{entry}" for name in ("staging", "trash") for entry in os.listdir(f"{STORE}/{name}")]


def run(c):
    c.clean()
    equal(c.volumes_on_record(), [], "volumes on record")
    c.until_equal(workers, [], "workers", seconds=30)
    # The next sweep removes leftovers of killed calls; run it now.
    c.driver_cli("sweep")
    c.until_equal(unfinished, [], "unfinished in the store", seconds=30)
    before = c.fetches("/medium.git")
    c.start(pod("last", csi(c.url("medium"), "v1")))
    contains(c.shell("last", "cat /v/README.md"), "test repository", "a volume after all scenes")
    check(c.fetches("/medium.git") - before <= 1, "a cached tree was fetched again")
