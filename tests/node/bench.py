"""bench.py [<rounds>]: how long volumes take to set up and pods to start, compared with emptyDir and gitRepo.

Starts pods of all kinds in turn, one at a time, so that other load on the machine affects all kinds. Reads the logs of
the kubelet and of containerd, since the API shows a started container up to a second late:

set-up   from "MountVolume started" to "SetUp succeeded"
started  from the create request to the started container
"""

import datetime
import os
import re
import statistics
import sys
import time

from harness.node import Node
from harness.objects import IMAGE, csi, flex, pod

KUBELET_LINE = re.compile(r"[IWE](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d+)")
CONTAINERD_LINE = re.compile(r'time="([^".]+)\.(\d+)Z".*StartContainer for \\"([0-9a-f]+)\\" returns')


def git_repo(url):
    return {"gitRepo": {"repository": url, "revision": "v1", "directory": "."}}


def kinds(c):
    """Name, and a function that makes the volume of a round. A miss has a new name each round, which no cache has."""
    made = {"emptyDir": lambda _: {"emptyDir": {}}}

    def add(name, volume, size, new):
        path = f"as/{time.time_ns()}-%s/{size}" if new else size
        made[name] = lambda number: volume(c.url(path % number if new else path), "v1")

    for size in ("small", "medium", "large"):
        add(f"csi hit {size}", csi, size, False)
        add(f"csi miss {size}", csi, size, True)
        add(f"flex hit {size}", flex, size, False)
        add(f"flex miss {size}", flex, size, True)
        if int(os.environ["KUBERNETES"].split(".")[1]) < 36:
            made[f"gitRepo {size}"] = lambda _, size=size: git_repo(c.url(size))
    return made


def lines_since(c, log, position):
    with open(f"{c.log}/{log}.log", "rb") as file:
        file.seek(position)
        return file.read().decode("utf-8", "replace").splitlines()


def seconds(line):
    month, day, hour, minute, second, fraction = KUBELET_LINE.match(line).groups()
    year = datetime.datetime.now().year
    whole = datetime.datetime(year, int(month), int(day), int(hour), int(minute), int(second)).timestamp()
    return whole + float(f"0.{fraction}")


def set_up(lines):
    """For the volume `v`."""
    lines = [line for line in lines if KUBELET_LINE.match(line) and r"volume \"v\"" in line]
    begun = [seconds(line) for line in lines if "MountVolume started" in line]
    done = [seconds(line) for line in lines if "SetUp succeeded" in line]
    return done[0] - begun[0]


def started(lines, container):
    for line in lines:
        found = CONTAINERD_LINE.match(line)
        if found and found[3] == container:
            whole = datetime.datetime.fromisoformat(f"{found[1]}+00:00").timestamp()
            return whole + float(f"0.{found[2]}")
    raise LookupError(f"containerd's log does not show the start of {container}")


def measure(c, name, volume):
    positions = {log: os.path.getsize(f"{c.log}/{log}.log") for log in ("kubelet", "containerd")}
    # Setting up the pod's own network would take longer than most volumes.
    wanted = pod(name, volume, hostNetwork=True)
    created = time.time()
    c.apply(wanted)
    c.ready(name, seconds=180)
    container = c.get("pod", name)["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    kubelet = [line for line in lines_since(c, "kubelet", positions["kubelet"]) if name in line]
    result = (
        set_up(kubelet) * 1000,
        (started(lines_since(c, "containerd", positions["containerd"]), container) - created) * 1000,
    )
    c.delete("pod", name, seconds=120)
    return result


def cell(values):
    return f"{statistics.median(values):6.0f} ({min(values):.0f}–{max(values):.0f})"


def main(rounds=5):
    c = Node(os.environ["GIT_SERVER"]).in_namespace("bench")
    c.make_namespace()
    try:
        made = kinds(c)
        # Fills the cache for the hits.
        for number, name in enumerate(kind for kind in made if " hit " in kind):
            measure(c, f"first-{number}", made[name](0))
        found = {name: [] for name in made}
        for number in range(rounds):
            for position, (name, volume) in enumerate(made.items()):
                found[name].append(measure(c, f"p{position}-{number}", volume(number)))
    finally:
        c.remove_namespace()
    print(f"kubelet {os.environ['KUBERNETES']}, {IMAGE}, {rounds} rounds; milliseconds: median (minimum–maximum)\n")
    print(f"{'volume':18} {'set-up':>24} {'started':>24}")
    for name, values in found.items():
        columns = [cell(column) for column in zip(*values)]
        print(f"{name:18} {columns[0]:>24} {columns[1]:>24}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
