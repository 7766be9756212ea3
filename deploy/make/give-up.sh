#!/bin/sh
# Shows why pods do not become ready, on stderr, and fails: the pods, and the warnings of their namespace.
#
#   sh deploy/make/give-up.sh <namespace> [<label of the pods>]
set -eu

{
    printf '\nGiving up. The pods in %s:\n' "$1"
    kubectl -n "$1" get pods ${2:+-l "$2"} -o wide || true
    printf '\nWarnings in %s, the latest last:\n' "$1"
    kubectl -n "$1" get events --field-selector type=Warning --sort-by=.lastTimestamp || true
} >&2
exit 1
