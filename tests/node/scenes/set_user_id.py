"""A set-user-id program in a pod's writable volume has no effect on the node."""

import os
import subprocess

from harness.node import STORE
from harness.objects import csi, flex, pod
from harness.outcome import check, equal

NEEDS_NODE = True
# The node's `id`, so that it runs there.
PROGRAM = "/usr/bin/id"
NOBODY = 65534


def uid_as_nobody(program):
    """The user that the program runs as when the user `nobody` starts it on the node."""
    done = subprocess.run([program, "-u"], capture_output=True, text=True, user=NOBODY, group=NOBODY, extra_groups=[])
    return done.stdout.strip() or done.stderr


def run(c):
    c.start(
        pod("csi", csi(c.url("small"), read_only=False)),
        pod("flex", flex(c.url("small"), read_only=False, writable="private")),
    )
    for name in ("csi", "flex"):
        (mount,) = c.volume_mounts(c.uid(name))
        options = next(options for path, options in c.mounts() if path == mount).split(",")
        for option in ("nosuid", "nodev"):
            check(option in options, f"the {name} volume on the node is mounted {options}")
        # The pod's root could do the same: it owns the volume.
        subprocess.run(["install", "-m", "4755", PROGRAM, f"{mount}/id"], check=True)
        equal(oct(os.stat(f"{mount}/id").st_mode & 0o7777), "0o4755", "mode of the program")
        equal(c.shell(name, "stat -c %a /v/id").strip(), "4755", "mode of the program in the pod")
        # nobody cannot enter the kubelet's directories: start it inside the mount, through a descriptor.
        directory = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            program = f"/proc/{os.getpid()}/fd/{directory}/id"
            found = run_inside(directory)
        finally:
            os.close(directory)
        equal(found, str(NOBODY), f"user of the program in the {name} volume, {program}, started by nobody")
    # nobody cannot enter the store, which has the same files on a mount that may have other flags.
    check(not os.stat(STORE).st_mode & 0o007, f"{STORE} is open to other users")


def run_inside(directory):
    """Starts ./id in a directory that nobody cannot reach by its path."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.fchdir(directory)
        os.dup2(writer, 1)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.execv("./id", ["id", "-u"])
    os.close(writer)
    with os.fdopen(reader) as output:
        found = output.read().strip()
    os.waitpid(child, 0)
    return found
