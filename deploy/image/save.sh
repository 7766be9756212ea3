#!/bin/sh
# Writes the image REFERENCE into the file ARCHIVE, for nodes that cannot reach a registry:
#   ctr --namespace k8s.io images import ARCHIVE        kind load image-archive ARCHIVE
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/deploy/image/builder.sh"

# Some builders refuse to overwrite an existing file.
rm -f "${ARCHIVE:?}"
# shellcheck disable=SC2086 # A command and its options.
case $builder in
buildah*) $builder push "${REFERENCE:?}" "docker-archive:$ARCHIVE:$REFERENCE" ;;
*) $builder save --output "$ARCHIVE" "${REFERENCE:?}" ;;
esac
