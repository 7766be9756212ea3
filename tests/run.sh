#!/bin/sh
# Runs all tests. Passes its arguments to cargo test.
#
# Nothing is skipped as root on a machine where root may mount. Otherwise tests that need this are skipped visibly.
set -eu

cd "$(dirname "$0")/.."
sh tests/setup.sh
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# The suites run the binaries as a kubelet or a person does.
cargo build --workspace --bins --locked
exec cargo test --workspace --locked "$@"
