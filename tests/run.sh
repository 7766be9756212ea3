#!/bin/sh
# Runs all tests. Passes its arguments to cargo test.
#
# Tests that need root or mounts are skipped with a message if these are not available.
set -eu

cd "$(dirname "$0")/.."
sh tests/setup.sh
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# The suites run the binaries like a kubelet or a user.
cargo build --workspace --bins --locked
exec cargo test --workspace --locked "$@"
