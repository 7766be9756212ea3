"""Impossible FlexVolumes: each causes an event that says why, and leaves nothing on the node."""

from harness.node import Node
from harness.objects import flex, pod, secret


def run(c):
    c.need_flexvolume()
    url = c.url("small")
    cases = {
        "no-revision": (flex(url, "v99"), ("v99",)),
        "misspelled": (flex(url, reposiory="x"), ("reposiory", "repository")),
        "refused": (flex(f"http://{c.host}:81/small.git"), (f"{c.host}:81", "refused")),
        "host-target": (flex(url, hostTarget="/srv/x"), ("/srv/x",)),
    }
    if isinstance(c, Node):
        cases |= over_ssh(c)
    c.apply(*(pod(name, volume) for name, (volume, _) in cases.items()))
    for name, (_, says) in cases.items():
        c.event(name, "FailedMount", *says, seconds=90)


def over_ssh(c):
    private = f"git@{c.host}:team/private.git"
    c.apply(
        secret("no-host", "piersharding/gitrepo", sshKey=c.ssh("user")),
        secret("opaque", sshKey=c.ssh("user"), known_hosts=c.host_key("host", c.host)),
    )
    return {
        "no-host": (flex(private, secret="no-host"), ("host key", "known_hosts")),
        "opaque": (flex(private, secret="opaque"), ("secret of type piersharding/gitrepo",)),
        "no-secret": (flex(private), (f"host key of {c.host} is unknown",)),
    }
