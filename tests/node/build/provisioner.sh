#!/bin/bash
# build/provisioner.sh <version> <directory>: builds the external provisioner from its Go module.
set -eu
. "$(dirname "$0")/module.sh"
version=$1 out=$2
module=github.com/kubernetes-csi/external-provisioner/${version%%.*}

start_module
printf 'require %s %s\n\n' "$module" "$version" >>go.mod
# Go follows only the main module's `replace`.
awk '/^replace/ { inside = 1 } inside { print } /^\)/ { inside = 0 }' "$(go_mod_of "$module@$version")" >>go.mod
printf 'package main\n\nimport _ "%s/pkg/controller"\n\nfunc main() {}\n' "$module" >main.go
tidy
build "$out/csi-provisioner" "$module/cmd/csi-provisioner" -ldflags "-s -w -X main.version=$version"
