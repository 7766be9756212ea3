#!/bin/bash
# build/runc.sh <version> <directory>: builds runc from its Go module.
set -eu
. "$(dirname "$0")/module.sh"
version=$1 out=$2

start_module
go get "github.com/opencontainers/runc@$version"
CGO_ENABLED=1 build "$out/runc" github.com/opencontainers/runc -tags seccomp \
    -ldflags "-s -w -X main.version=${version#v}"
