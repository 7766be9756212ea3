"""Both drivers are uninstalled, which is refused while they have volumes, and then reinstalled."""

import os

from harness.make import make
from harness.objects import csi, flex, pod
from harness.outcome import check, contains

NEEDS_NODE = True
DRIVER = os.environ.get("PLUGIN_DIR", "") + "/piersharding~gitrepo/gitrepo"


def run(c):
    c.start(pod("user", csi(c.url("small"))))
    contains(make("delete-csi", fails=True), f"{c.namespace}/user", "pods that use the driver")
    c.delete("pod", "user")
    c.until("the kubelet has unmounted it", lambda: not c.volume_mounts(), seconds=60)
    try:
        make("delete-csi")
        make("uninstall")
        check(not os.path.exists(DRIVER), f"{DRIVER} is still there")
        system = c.in_namespace(c.drivers)
        left = [one["metadata"]["name"] for one in system.get("daemonsets") if "gitrepo" in one["metadata"]["name"]]
        check(not left, f"still there: {left}")
    finally:
        make("deploy-csi", "wait-csi", "deploy", "wait")
    c.start(pod("csi", csi(c.url("small"))), pod("flex", flex(c.url("small"))))
