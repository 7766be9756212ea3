"""Pods are deleted by force, and the kubelet learns of it afterwards: their volumes still disappear."""

from harness.objects import csi, flex, pod

NEEDS_NODE = True


def run(c):
    url = c.url("small")
    pods = [
        pod("csi-ro", csi(url)),
        pod("csi-rw", csi(url, read_only=False)),
        pod("flex-ro", flex(url)),
        pod("flex-rw", flex(url, read_only=False)),
    ]
    c.start(*pods)
    c.delete("pods", "--all", grace_period=0, force="true")
    c.clean()
    # The names may be used again at once.
    c.start(*pods)
    c.delete("pods", "--all", grace_period=0, force="true")
