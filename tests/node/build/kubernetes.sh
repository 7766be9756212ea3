#!/bin/bash
# build/kubernetes.sh <version> <directory> <program>…
#
# Builds programs of Kubernetes, such as kubelet, from its Go module. Takes five minutes of CPU for all of 1.34.
set -eu
. "$(dirname "$0")/module.sh"
version=$1 out=$2
shift 2

minor=${version#v1.}
staging=v0.$minor
minor=${minor%%.*}
base=k8s.io/component-base/version
client=k8s.io/client-go/pkg/version

start_module
printf 'require k8s.io/kubernetes %s\n' "$version" >>go.mod
# The module requires its own staging modules as v0.0.0, and replaces them with directories that it does not contain.
definition=$(go_mod_of "k8s.io/kubernetes@$version")
{
    printf 'replace (\n'
    sed -nE 's/^[[:space:]]*(k8s\.io\/[a-z0-9-]+) v0\.0\.0( .*)?$/\1/p' "$definition" | sort -u |
        while read -r module; do
            printf '\t%s => %s %s\n' "$module" "$module" "$staging"
        done
    printf ')\n'
} >>go.mod
{
    printf 'package main\n'
    for program; do
        case $program in
        kubectl) printf 'import _ "k8s.io/kubectl/pkg/cmd"\n' ;;
        *) printf 'import _ "k8s.io/kubernetes/cmd/%s/app"\n' "$program" ;;
        esac
    done
    printf 'func main() {}\n'
} >main.go
tidy
for program; do
    # Old golang.org/x modules link to names that newer Go versions hide: checklinkname=0.
    build "$out/$program" "k8s.io/kubernetes/cmd/$program" -ldflags "-s -w -checklinkname=0 \
        -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=$minor -X $base.gitTreeState=clean \
        -X $client.gitVersion=$version"
done
