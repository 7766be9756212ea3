#!/bin/sh
# Checks the dependencies with cargo-deny and deny.toml: licences, sources and duplicates. Also checks that no version
# in Cargo.lock is yanked. Needs only the package registry.
#
#   sh tests/deny.sh               what CI checks
#   sh tests/deny.sh advisories    known vulnerabilities; needs github.com, which has the database
set -eu

version=0.20.2
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

fail() {
    printf 'deny: %s\n' "$*" >&2
    exit 1
}

clean_up() { rm -rf "$work"; }

case ${1:-} in
'') checks='licenses bans sources' ;;
advisories) checks=$1 ;;
*) fail "$1 is not a check; see the head of $0" ;;
esac

sh tests/setup.sh build
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' HUP INT TERM

if [ "$("$tools/cargo-deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
    printf 'Building cargo-deny %s (a minute or two)\n' "$version"
    # It runs only briefly: optimising it would take longer.
    CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install --quiet --locked --debug --root "$work" "cargo-deny@$version" ||
        fail "could not build cargo-deny $version; is there a network?"
    mkdir -p "$tools"
    mv "$work/bin/cargo-deny" "$tools/cargo-deny"
fi

# shellcheck disable=SC2086 # A list of words.
"$tools/cargo-deny" check $checks
[ "$checks" != advisories ] || exit 0

# Cargo looks up each version when it packs a crate, but only warns; with --quiet it does not even warn.
cargo package --workspace --no-verify --allow-dirty --locked --target-dir "$work/packages" >"$work/warnings" 2>&1 ||
    fail "cargo package: $(cat "$work/warnings")"
! grep -F "is yanked in registry" "$work/warnings" || fail "cargo update can replace the yanked versions"
