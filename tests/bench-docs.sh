#!/bin/sh
# `make bench-docs`: shows the results of the last `make bench` in README.md and docs/.
#
#   OUT=target/bench   where `make bench` wrote them
#   ROOT=.             the workspace to change
set -eu
cd "$(dirname "$0")/.."
out=${OUT:-target/bench}
root=${ROOT:-.}
for file in summary.md bench.md bench.svg; do
    [ -s "$out/$file" ] || { echo "there is no $out/$file: run make bench first" >&2; exit 1; }
done
for marker in begin end; do
    grep -qx "<!-- bench:$marker -->" "$root/README.md" ||
        { echo "README.md has no line '<!-- bench:$marker -->' to put the table at" >&2; exit 1; }
done
new=$(mktemp)
trap 'rm -f "$new"' EXIT
awk -v table="$out/summary.md" '
    /^<!-- bench:end -->$/ { inside = 0 }
    !inside { print }
    /^<!-- bench:begin -->$/ { inside = 1; print ""; while ((getline line < table) > 0) print line; print "" }
' "$root/README.md" > "$new"
cat "$new" > "$root/README.md"
cp "$out/bench.md" "$out/bench.svg" "$root/docs/"
