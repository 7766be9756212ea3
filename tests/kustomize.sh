#!/bin/sh
# Builds kustomize, which Debian does not package, into target/tools if neither it nor a kubectl with it is installed.
# Needs Go; Debian's is enough.
#
#   sh tests/kustomize.sh [--check]      with --check: only reports by its exit status whether one is installed
set -eu

# The last version that Go 1.19 builds. Go checks downloads against the checksum database.
version=v5.0.3
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools

# Old versions, such as Debian's kubectl, do not understand all our manifests.
renders() { "$@" "$root/deploy/flexvolume/base" >/dev/null 2>&1; }

if renders "$tools/kustomize" build || renders kustomize build || renders kubectl kustomize; then
    exit
fi
if [ "${1:-}" = --check ]; then
    exit 1
fi
printf 'Building kustomize %s (a minute or two)\n' "$version"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
GOPATH=$work GOCACHE=$work/cache GOBIN=$tools GOFLAGS='' go install "sigs.k8s.io/kustomize/kustomize/v5@$version"
