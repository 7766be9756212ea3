"""PersistentVolumes of each access mode: which pods share, which are refused, and why."""

from harness.objects import claim, persistent_volume, pod
from harness.outcome import check, contains

MODES = {"rwo": "ReadWriteOnce", "rwx": "ReadWriteMany", "rox": "ReadOnlyMany", "rwop": "ReadWriteOncePod"}


def run(c):
    # PersistentVolumes have no namespace.
    names = {mode: f"{c.namespace}-{mode}" for mode in MODES}
    made = [
        part
        for mode, name in names.items()
        for part in persistent_volume(name, c.namespace, MODES[mode], c.url("small"))
    ]
    try:
        c.apply(*made)
        claims(c, names)
    finally:
        # An old kubelet waits two minutes for the volumes of a pod before it notices that the pod is deleted.
        c.delete("pods", "--all", seconds=180)
        c.delete("persistentvolumeclaims", "--all")
        c.delete("persistentvolumes", *names.values())


def claims(c, names):
    c.start(
        *(pod(f"{mode}-{number}", claim(names[mode])) for mode in ("rwo", "rwx") for number in (1, 2)),
        *(pod(f"{mode}-reader", claim(names[mode], read_only=True)) for mode in ("rwx", "rox")),
        pod("rwop-1", claim(names["rwop"])),
    )
    for mode in ("rwo", "rwx"):
        c.shell(f"{mode}-1", f"echo {mode} > /v/new")
        contains(c.shell(f"{mode}-2", "cat /v/new"), mode, f"two pods of one {MODES[mode]} claim share")
    contains(c.shell("rwop-1", "echo own > /v/new; cat /v/new"), "own", "ReadWriteOncePod")
    for reader in ("rwx-reader", "rox-reader"):
        contains(c.shell(reader, "cat /v/README.md"), "test repository", f"{reader} reads")
        contains(c.shell(reader, "touch /v/x"), "Read-only file system", f"{reader} writes")
        check("rw" not in c.shell(reader, "ls /v").split(), f"{reader} sees the writers' copy")
    c.apply(pod("rox-writer", claim(names["rox"])), pod("rwop-2", claim(names["rwop"])))
    for_readers(c, "rox-writer")
    c.event("rwop-2", "FailedScheduling", "ReadWriteOncePod")


def for_readers(c, name):
    """A read-only access mode is enough where the node serves images. Elsewhere it is refused: the kubelet tells the
    container runtime only the pod's `readOnly`."""

    def refusal():
        return [event for event in c.events(name) if "persistentVolumeClaim.readOnly" in event]

    def runs():
        return (c.get("pod", name) or {}).get("status", {}).get("phase") == "Running"

    c.until(f"{name} runs, or is refused with advice", lambda: runs() or refusal(), 90)
    if runs():
        contains(c.shell(name, "cat /v/README.md"), "test repository", f"{name} reads")
        contains(c.shell(name, "touch /v/x"), "Read-only file system", f"{name} writes")
