"""Every kind of volume of docs/volumes.md, applied as it is printed but for the URL of its repository."""

import os
import re

from harness.node import HERE
from harness.outcome import Skipped, check, contains

NEEDS_NODE = True
FORGE = "https://git.example.com/team/"

# What the container of a pod prints, if it prints anything.
PRINTED = {
    "reader": "README.md",
    "part": "index.md",
    "repository": ".git",
    "submodules": "README.md",
    "checkout": "6 /src/run.bat",
    "links": "README.md",
}

# The node has no server of Git LFS.
LEFT_OUT = {"models"}


def manifests(c):
    """The printed manifests, each with the name of its pod."""
    with open(f"{HERE}/../../docs/volumes.md") as file:
        text = file.read()
    section = text.split("\n## Kinds of volumes\n")[1].split("\n## ")[0]
    for manifest in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL):
        pod = manifest[manifest.rindex("kind: Pod") :]
        name = re.search(r"  name: (\S+)", pod)[1]
        if name not in LEFT_OUT:
            yield name, manifest.replace(FORGE, f"{c.git}/public/")


def run(c):
    if int(os.environ["KUBERNETES"].split(".")[1]) < 33:
        raise Skipped("kubelets give pods their own users since 1.33, which one kind is for")
    # Some name this namespace.
    c = c.in_namespace("default")
    texts = dict(manifests(c))
    check(PRINTED.keys() <= texts.keys(), f"{PRINTED.keys()} are not among {texts.keys()}")
    try:
        for text in texts.values():
            c.apply_text(text)
        for name in texts:
            contains(c.ended(name), PRINTED.get(name, ""), name)
    finally:
        for text in texts.values():
            c.delete_text(text)
