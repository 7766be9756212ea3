"""Simulates a reboot of the node: all containers, the runtime and the kubelet are killed, and all mounts of volumes
are gone. Each volume shows the same commit and data as before, although the branch has moved; new pods see the new
commit."""

import os
import subprocess

from harness.node import KUBELET_DIR, STORE
from harness.objects import claim, csi, flex, persistent_volume, pod
from harness.outcome import contains, equal

NEEDS_NODE = True
NAMES = ("ro", "rw", "pv", "flex-rw")


def run(c):
    url = c.url("small")
    name = f"{c.namespace}-pv"
    try:
        c.apply(*persistent_volume(name, c.namespace, "ReadWriteOnce", url))
        c.start(
            pod("ro", csi(url)),
            pod("rw", csi(url, read_only=False)),
            pod("pv", claim(name)),
            pod("flex-rw", flex(url, read_only=False, writable="private")),
        )
        rebooted(c, url)
    finally:
        c.delete("pods", "--all", seconds=120)
        c.delete("persistentvolumeclaim", name)
        c.delete("persistentvolume", name)


def rebooted(c, url):
    trees = {name: names(c, name) for name in NAMES}
    for name in NAMES[1:]:
        c.shell(name, "echo kept > /v/kept")
        trees[name].add("kept")
    c.advance("small")
    crash(c)
    c.up()
    c.until("all pods run again", lambda: all(restarted(c, name) for name in NAMES), seconds=180)
    for name in NAMES:
        equal(names(c, name), trees[name], f"what {name} shows after the reboot")
        equal(len(c.volume_mounts(c.uid(name))), 1, f"mounts of {name}")
    for name in NAMES[1:]:
        contains(c.shell(name, "cat /v/kept"), "kept", f"data written to {name} before the reboot")
    c.wait_for_driver()
    c.start(pod("new", csi(url)), seconds=120)
    contains(c.shell("new", "ls /v"), "NEW", "a new pod")


def names(c, name):
    return set(c.execute(name, "ls", "-A", "/v").split())


def crash(c):
    c.kill(c.pid("kubelet"))
    for task in c.ctr("task", "ls", "--quiet").split():
        subprocess.run(["ctr", "task", "kill", "-a", "-s", "SIGKILL", task], capture_output=True)
    c.until("all containers have ended", lambda: "RUNNING" not in c.ctr("task", "ls"), seconds=30)
    c.kill(c.pid("containerd"))
    for path, _ in sorted(c.mounts(), reverse=True):
        if path.startswith((f"{KUBELET_DIR}/pods/", f"{STORE}/")) and os.path.exists(path):
            subprocess.run(["umount", "-l", path], check=True)


def restarted(c, name):
    for status in c.get("pod", name)["status"].get("containerStatuses", []):
        return status["restartCount"] > 0 and status["ready"]
    return False
