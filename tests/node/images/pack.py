"""pack.py <image> <directory> <archive> <entrypoint>…

Packs a directory as the one layer of an image, owned by root, into an archive for `ctr images import`."""

import hashlib
import io
import json
import os
import platform
import sys
import tarfile

PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}


def owned_by_root(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main(image, directory, archive, *command):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for name in sorted(os.listdir(directory)):
            layer.add(os.path.join(directory, name), arcname=name, filter=owned_by_root)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    configuration = {
        "architecture": PROCESSORS.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": list(command),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(configuration).encode()
    name = hashlib.sha256(encoded).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [image], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(archive, "w") as output:
        add(output, f"{name}.json", encoded)
        add(output, f"{digest}/layer.tar", content)
        add(output, "manifest.json", json.dumps(manifest).encode())


main(*sys.argv[1:])
