#!/bin/sh
# Waits until a driver's DaemonSet runs on every node, in the namespace that its render.sh says; shows its pods and their
# warnings when it gives up.
#
#   sh deploy/make/wait.sh <render.sh> <DaemonSet> <label of its pods>
set -eu

here=$(dirname "$0")
namespace=$(sh "$here/namespace.sh" "$1")
kubectl -n "$namespace" rollout status "daemonset/$2" --timeout="${WAIT_TIMEOUT:-180s}" ||
    sh "$here/give-up.sh" "$namespace" "$3"
