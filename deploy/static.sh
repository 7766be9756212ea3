#!/bin/sh
# Builds the programs as static binaries, which need no libraries of the host and are the image's only programs.
#
#   sh deploy/static.sh              release: small and fast
#   sh deploy/static.sh <profile>    another profile of Cargo's, such as dev
#
# Prints the path of each binary. Needs musl-gcc and Rust's target for musl; tests/setup.sh installs them where it can.
set -eu

case ${1:-} in
-h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
profile=${1:-release}
# musl-gcc is the host's compiler with another C library, so it builds for the host's architecture.
target=$(uname -m)-unknown-linux-musl
packages='gitrepo-flex gitrepo-csi gitrepo-cli'
programs='gitrepo-flex gitrepo-flex-install gitrepo-csi gitrepo-cli'

fail() {
    printf 'static: %s\n' "$*" >&2
    exit 1
}

# Checks that the kernel alone can load it: it names no loader, and needs no library.
check_static() {
    headers=$(readelf -lW "$1") || fail "readelf cannot read $1"
    dynamic=$(readelf -dW "$1") || fail "readelf cannot read $1"
    case $headers in *INTERP*) fail "$1 asks for a loader" ;; esac
    case $dynamic in *NEEDED*) fail "$1 needs shared libraries" ;; esac
}

sh "$root/tests/setup.sh" static >&2
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH

case $profile in
dev) directory=debug ;;
*) directory=$profile ;;
esac
directory=${CARGO_TARGET_DIR:-$root/target}/$target/$directory

# For the C libraries: curl, libdeflate, libgit2, libssh2, OpenSSL and zlib-ng.
export "CC_$(printf %s "$target" | tr - _)=musl-gcc"
cd "$root"
# shellcheck disable=SC2046 # A list of words.
cargo build --locked --target "$target" --profile "$profile" $(printf ' --package %s' $packages) --bins >&2

for program in $programs; do
    check_static "$directory/$program"
    printf '%s\n' "$directory/$program"
done
