#!/bin/bash
# `make node-bench`: brings up a node as node-test.sh does, prints how long volumes take to set up and pods to start,
# and removes the node.
#
#   KUBERNETES=v1.25.16   the kubelet's version
#   ROUNDS=5              how often each kind of volume is measured
set -eu
. "$(dirname "$0")/run.sh"
on_a_node python3 -B "$here/bench.py" "${ROUNDS:-5}"
