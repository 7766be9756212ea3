#!/bin/bash
# git-server-image.sh <file>: builds the git server image of `make e2e` from Debian's python3 and git, for clusters
# without a registry: `ctr --namespace k8s.io images import FILE` on the nodes.
set -eu
file=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=$(sed -n 's/^ *image: //p' "$here/servers/git-server.yaml")

command -v mmdebstrap >/dev/null 2>&1 || apt-get -qq install -y --no-install-recommends mmdebstrap >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
mmdebstrap --quiet --variant=extract --include=git,python3,dash bookworm "$work/root"
python3 "$here/images/pack.py" "$image" "$work/root" "$file" /usr/bin/python3
