#!/bin/bash
# `make node-test`: brings up a node, installs both drivers, runs the scenes and removes everything. As root, on Debian.
#
#   KUBERNETES=v1.25.16   the kubelet's version
#   SCENES="a b"          only these scenes, named like their files in tests/node/scenes
#   KEEP=1                leave the node up; `bash tests/node/down.sh` removes it
#   NODE_CACHE=DIRECTORY  where built programs are kept
set -eu
. "$(dirname "$0")/run.sh"
# shellcheck disable=SC2086 # A list of words.
on_a_node python3 -B "$here/run_scenes.py" node ${SCENES:-}
