"""FlexVolume pods: read-only, writable, private, and with an SSH key."""

from harness.node import Node
from harness.objects import flex, pod, secret
from harness.outcome import contains, equal


def run(c):
    c.need_flexvolume()
    url = c.url("small")
    group = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    c.start(
        pod("read-only", flex(url)),
        pod("private", flex(url, read_only=False, writable="private")),
        pod("group", flex(url, read_only=False, writable="private"), securityContext=group),
    )
    contains(c.shell("read-only", "cat /v/README.md"), "test repository", "read-only")
    contains(c.shell("read-only", "touch /v/x"), "Read-only file system", "a write to a read-only volume")
    contains(c.shell("private", "echo own > /v/new; cat /v/new"), "own", "a private copy is writable")
    contains(c.shell("group", "echo own > /v/new; cat /v/new"), "own", "a private copy belongs to the group")
    if isinstance(c, Node):
        on_one_node(c)
        over_ssh(c)


def on_one_node(c):
    url = c.url("small")
    c.start(pod("shared-1", flex(url, read_only=False)), pod("shared-2", flex(url, read_only=False)))
    c.shell("shared-1", "echo shared > /v/shared")
    contains(c.shell("shared-2", "cat /v/shared"), "shared", "pods with equal requests share a writable copy")
    equal(c.shell("private", "ls /v/shared 2>/dev/null"), "", "a private copy shows another pod's file")


def over_ssh(c):
    # The driver runs on the host with the host's names, so known_hosts needs the server's address.
    known = c.host_key("host", c.host)
    c.apply(secret("key", "piersharding/gitrepo", sshKey=c.ssh("user"), known_hosts=known))
    c.start(pod("ssh", flex(f"git@{c.host}:team/private.git", "v1.2", secret="key")))
    contains(c.shell("ssh", "cat /v/README.md"), "test repository", "SSH")
