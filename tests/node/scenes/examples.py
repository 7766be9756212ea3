"""Every example of the project, applied unchanged except for the values of its secrets."""

import os

from harness.node import HERE
from harness.outcome import contains

NEEDS_NODE = True
EXAMPLES = f"{HERE}/../../deploy/csi/examples"
# Each must be tested here, or in the provisioner's scene.
PROVISIONED = {"storage-class.yaml", "storage-class-private.yaml", "storage-class-private-secret.yaml"}


def manifest(name):
    with open(f"{EXAMPLES}/{name}") as file:
        return file.read()


def names():
    return sorted(name for name in os.listdir(EXAMPLES) if name.endswith(".yaml"))


def secret_values(c, text):
    """Replaces the reader's secrets in an example with the node's own."""
    known = c.host_key("host").strip().split(" ", 1)[1]
    lines = []
    for line in text.splitlines():
        if line.strip() == "replace me":
            indent = line[: line.index("r")]
            lines += [indent + key for key in c.ssh("user").splitlines()[1:-1]]
        else:
            lines.append(line.replace("ssh-ed25519 AAAA-replace-me", known).replace("replace-me", "secret"))
    return "\n".join(lines) + "\n"


def run(c):
    # Some examples use this namespace.
    c = c.in_namespace("default")
    texts = {name: secret_values(c, manifest(name)) for name in names() if name not in PROVISIONED}
    try:
        # Secrets are in separate files, whose order does not matter: pods wait for them.
        for text in texts.values():
            c.apply_text(text)
        contains(c.ended("gitrepo-inline-public"), "README.md", "inline-public")
        contains(c.ended("gitrepo-inline-https"), "README.md", "inline-https")
        contains(c.ended("gitrepo-inline-ssh"), "written", "inline-ssh")
        c.kubectl("rollout", "status", "deployment/gitrepo-site", "--timeout=90s")
        for pod in c.get("pods", None, "-l", "app=gitrepo-site"):
            name = pod["metadata"]["name"]
            page = c.execute(name, "wget", "-q", "-O", "-", "http://127.0.0.1/README.md", container="nginx")
            contains(page, "test repository", "persistent-volume")
    finally:
        for text in texts.values():
            c.delete_text(text)
