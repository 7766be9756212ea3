#!/bin/sh
# Pushes the image REFERENCE with the tool that built it. `make push` calls it.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/deploy/image/builder.sh"

# shellcheck disable=SC2086 # A command and its options.
$builder push "${REFERENCE:?}"
