#!/bin/sh
# Runs the suites of faults for long: kills, full and failing disks, power failures, evictions, many operations.
#
# The same GITREPO_TEST_SEED, which it prints, repeats the random choices. The other variables say how much to run. Extra
# arguments select tests by part of their names; all of these suites run by default. Needs root.
set -eu
cd "$(dirname "$0")/.."

: "${GITREPO_TEST_SEED:=$(date +%s%N)}"
: "${GITREPO_TEST_KILLS:=250}"
: "${GITREPO_TEST_ALL_STEPS:=1}"
: "${GITREPO_TEST_STEP_ERRORS:=EIO ENOSPC EROFS}"
: "${GITREPO_TEST_DISK_STEP:=16384}"
: "${GITREPO_TEST_POWER_FAILURES:=100}"
: "${GITREPO_TEST_STORM_SECONDS:=60}"
: "${GITREPO_TEST_STORM_CLIENTS:=20}"
: "${GITREPO_TEST_OPERATIONS:=10000}"
export GITREPO_TEST_SEED GITREPO_TEST_KILLS GITREPO_TEST_ALL_STEPS GITREPO_TEST_STEP_ERRORS
export GITREPO_TEST_DISK_STEP GITREPO_TEST_POWER_FAILURES GITREPO_TEST_STORM_SECONDS
export GITREPO_TEST_STORM_CLIENTS GITREPO_TEST_OPERATIONS
export GITREPO_REQUIRE_ALL=1
env | grep '^GITREPO_TEST_' | sort

# One test at a time: the storm counts what the disk takes, and each of the others keeps a small machine busy.
[ $# -gt 0 ] || set -- kills:: steps:: power_loss:: full_disk:: eviction::storm csi_services::faults:: csi::mixed::
sh tests/run.sh --test suites -- --test-threads 1 "$@"
