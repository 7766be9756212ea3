"""The git server of `make e2e`, in a pod: creates the repositories that it needs, and serves them on port 8080."""

import sys
import tempfile

import git_http
import repositories

NAMES = ("small", "medium", "team/private")


def main():
    root = tempfile.mkdtemp()
    for name in NAMES:
        repositories.make(root, name, repositories.REPOSITORIES[name])
    rate = f"{root}/slow-rate"
    with open(rate, "w") as file:
        file.write("400000")
    # The log of requests is the pod's log.
    git_http.Server(("", 8080), root, sys.stdout, rate).serve_forever()


main()
