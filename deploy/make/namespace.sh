#!/bin/sh
# Prints the namespace of the DaemonSet that a driver's render.sh prints: an overlay may set its own.
#
#   sh deploy/make/namespace.sh <render.sh>
set -eu

manifests=$(sh "$1")
printf '%s\n' "$manifests" | awk '
    /^---/ { found = 0 }
    /^kind: DaemonSet$/ { found = 1 }
    found && /^  namespace: / { gsub(/"/, "", $2); print $2; exit }'
