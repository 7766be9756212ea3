#!/bin/bash
# build/containerd.sh <version> <directory>: builds containerd 2, its shim and ctr from their Go module.
set -eu
. "$(dirname "$0")/module.sh"
version=$1 out=$2
module=github.com/containerd/containerd/v2

start_module
go get "$module/cmd/containerd@$version" "$module/cmd/containerd-shim-runc-v2@$version" "$module/cmd/ctr@$version"
for program in containerd containerd-shim-runc-v2 ctr; do
    build "$out/$program" "$module/cmd/$program" -tags no_btrfs,no_zfs,no_devmapper \
        -ldflags "-s -w -X $module/version.Version=${version#v}"
done
