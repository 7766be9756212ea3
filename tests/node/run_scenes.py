"""run_scenes.py node|cluster [<scene>…]

Runs all scenes, or the named ones, in the order of SCENES; prints a table; fails if one of them failed. `node`: this
machine is the node that up.sh made. `cluster`: the cluster of KUBECONFIG; scenes that need root on the node, or names
and servers that only the node has, are reported as skipped. GIT_SERVER is the URL of the git server.
"""

import importlib
import os
import sys
import time
import traceback

from harness.cluster import Cluster
from harness.node import Node
from harness.outcome import Failed, Skipped

# The last ones disturb the node.
SCENES = [
    "access",
    "persistent_volumes",
    "flexvolume",
    "broken_volumes",
    "broken_flexvolumes",
    "silent_server",
    "examples",
    "kinds",
    "provisioner",
    "burst",
    "capabilities",
    "set_user_id",
    "user_namespace",
    "shared_tree",
    "slow_clone_deleted",
    "force_delete",
    "driver_killed",
    "kubelet_killed",
    "rolling_update",
    "uninstall",
    "reboot",
    "leftovers",
]


def run(name, cluster):
    """Returns passed, skipped or FAILED, with the reason."""
    scene = importlib.import_module(f"scenes.{name}")
    # Its own namespace, so that leftovers of a failed scene do not disturb others.
    own = cluster.in_namespace(f"scene-{name.replace('_', '-')}")
    try:
        if getattr(scene, "NEEDS_NODE", False) and not isinstance(cluster, Node):
            raise Skipped("it needs the node's root, or its servers")
        own.make_namespace()
        try:
            scene.run(own)
        except Exception:
            print(evidence(own))
            raise
        finally:
            own.remove_namespace()
        if isinstance(own, Node):
            own.clean()
    except Skipped as skipped:
        return "skipped", str(skipped)
    except Failed as failed:
        return "FAILED", str(failed)
    except Exception as error:
        # An error in a scene is a failure too, and the other scenes continue.
        traceback.print_exc()
        return "FAILED", f"{type(error).__name__}: {error}"
    return "passed", ""


def evidence(cluster):
    """The pods and the latest events, to see why a scene failed."""
    pods = cluster.kubectl("get", "pods", "-o", "wide", expect=None)
    return "\n".join([pods, *cluster.events()[-20:]])


def main(where, *names):
    unknown = set(names) - set(SCENES)
    if unknown:
        sys.exit(f"no such scenes: {' '.join(sorted(unknown))}; there are {' '.join(SCENES)}")
    git = os.environ["GIT_SERVER"]
    cluster = Node(git) if where == "node" else Cluster(git)
    rows = []
    for name in SCENES:
        if names and name not in names:
            continue
        print(f"-- {name}", flush=True)
        started = time.monotonic()
        result, reason = run(name, cluster)
        seconds = time.monotonic() - started
        rows.append((name, result, seconds, reason))
        print(f"   {result} in {seconds:.0f} s {reason}", flush=True)
    print(f"\n{'scene':20} {'result':8} seconds")
    for name, result, seconds, reason in rows:
        print(f"{name:20} {result:8} {seconds:7.0f}  {reason[:300]}")
    sys.exit(any(result == "FAILED" for _, result, _, _ in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
