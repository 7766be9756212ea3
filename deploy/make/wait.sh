#!/bin/sh
# Waits until every DaemonSet and Deployment that a driver's render.sh prints runs, in the namespace that it prints;
# shows their pods and warnings when it gives up.
#
#   sh deploy/make/wait.sh <render.sh> <label of the pods> <target that deploys it>
set -eu

here=$(dirname "$0")
namespace=$(sh "$here/namespace.sh" "$1")
workloads=$(sh "$1" | awk '
    /^---/ { kind = "" }
    /^kind: (DaemonSet|Deployment)$/ { kind = tolower($2) }
    /^metadata:$/ { named = 1; next }
    /^[^ ]/ { named = 0 }
    named && kind && /^  name: / { print kind "/" $2; kind = "" }')
for workload in $workloads; do
    kubectl -n "$namespace" rollout status "$workload" --timeout="${WAIT_TIMEOUT:-180s}" && continue
    if ! kubectl -n "$namespace" get "$workload" >/dev/null 2>&1; then
        printf 'There is no %s in the namespace %s: run make %s first, with the same variables.\n' \
            "$workload" "$namespace" "$3" >&2
    fi
    sh "$here/give-up.sh" "$namespace" "$2"
done
