#!/bin/sh
# Prints the targets and variables of a makefile: `target: … ## description`, `NAME ?= default## description`.
set -eu

printf 'Targets:\n'
sed -n 's/^\([a-z0-9_-]*\):[^#]*## \(.*\)$/\1\t\2/p' "$1" | awk -F '\t' '{ printf "  %-22s %s\n", $1, $2 }'
printf '\nVariables, as in `make deploy DRIVER_NAMESPACE=gitrepo`, and their defaults:\n'
sed -n 's/^\([A-Z0-9_]*\) ?= *\(.*[^#]\|\)## *\(.*\)$/\1\t\2\t\3/p' "$1" |
    awk -F '\t' '{ printf "  %-22s %s%s(%s)\n", $1, $2, ($2 == "" ? "" : "  "), $3 }'
