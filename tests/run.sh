#!/bin/sh
# Runs all tests. Arguments go to cargo test.
#
# As root, on a machine where root may mount, nothing is skipped; otherwise the tests that need it say that they are.
set -eu

cd "$(dirname "$0")/.."
sh tests/setup.sh
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# The suites run the binaries as a kubelet or a person would.
cargo build --workspace --bins --locked
exec cargo test --workspace --locked "$@"
