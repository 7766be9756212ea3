#!/bin/sh
# Shows a driver's pods and the last lines of their logs, in the namespace that its render.sh prints.
#
#   sh deploy/make/logs.sh <render.sh> <label of its pods>
set -eu

namespace=$(sh "$(dirname "$0")/namespace.sh" "$1")
kubectl -n "$namespace" get pods -l "$2" -o wide
kubectl -n "$namespace" logs -l "$2" --all-containers --prefix --tail=100
