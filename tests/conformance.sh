#!/bin/sh
# Runs the CSI conformance tests (csi-sanity of kubernetes-csi/csi-test) against gitrepo-csi: with its own controller,
# and with its node service beside a foreign controller. Needs root; leaves nothing behind, and its mounts are private.
#
#   sh tests/conformance.sh                      builds the driver first, and csi-sanity once
#   CSI_SANITY=<program> sh tests/conformance.sh
#   GITREPO_CSI=<binary> GITREPO_TEST_CONTROLLER=<binary> sh tests/conformance.sh
set -eu

# Go checks downloads against the checksum database.
version=v5.6.0
# How many tests pass for a driver with our capabilities. More is fine, fewer is a regression.
passes_of_all=33
passes_of_node=31

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools

fail() {
    printf 'conformance: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Go 1.21 or newer fetches the toolchain that the module names if its own is older.
install_csi_sanity() {
    has go || [ ! -x /usr/local/go/bin/go ] || PATH=$PATH:/usr/local/go/bin
    has go || fail 'csi-sanity is missing: set CSI_SANITY to it, or install Go 1.21 or newer (https://go.dev/dl)'
    minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*$/\1/p')
    [ "${minor:-99}" -ge 21 ] || fail "Go is $(go env GOVERSION), which cannot build csi-sanity: 1.21 or newer is needed"
    printf 'Building csi-sanity %s (a minute or two)\n' "$version"
    GOBIN=$tools GOFLAGS='' GOTOOLCHAIN=auto go install "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@$version" ||
        fail "could not build csi-sanity $version; is there a network?"
    printf '%s\n' "$version" >"$tools/csi-sanity.version"
}

if [ -z "${CONFORMANCE_INSIDE:-}" ]; then
    [ "$(id -u)" = 0 ] || fail 'mounting needs root'
    if [ -z "${CSI_SANITY:-}" ]; then
        CSI_SANITY=$tools/csi-sanity
        [ -x "$CSI_SANITY" ] && [ "$(cat "$tools/csi-sanity.version" 2>/dev/null)" = "$version" ] || install_csi_sanity
    fi
    has "$CSI_SANITY" || fail "CSI_SANITY is $CSI_SANITY, which is not a program"
    if [ -z "${GITREPO_CSI:-}" ] || [ -z "${GITREPO_TEST_CONTROLLER:-}" ]; then
        sh "$root/tests/setup.sh" build
        has cargo || PATH=$HOME/.cargo/bin:$PATH
        (cd "$root" && cargo build --quiet --locked --workspace --bins)
        built=${CARGO_TARGET_DIR:-$root/target}/debug
        : "${GITREPO_CSI:=$built/gitrepo-csi}" "${GITREPO_TEST_CONTROLLER:=$built/gitrepo-test-controller}"
    fi
    export CSI_SANITY GITREPO_CSI GITREPO_TEST_CONTROLLER CONFORMANCE_INSIDE=1
    exec unshare --mount --propagation private sh "$0"
fi

work=$(mktemp -d)
chmod 755 "$work"
running=

end_all() {
    for process in $running; do
        kill "$process" 2>/dev/null || true
    done
    for process in $running; do
        wait "$process" 2>/dev/null || true
    done
    running=
}

# Mounts vanish with the namespace, but only after this: unmount first, so that nothing is removed through a mount.
clean_up() {
    status=$?
    trap - EXIT HUP INT TERM
    end_all
    if grep -qF " $work/" /proc/self/mountinfo; then
        grep -F " $work/" /proc/self/mountinfo | cut -d ' ' -f 5 | sort -r | xargs umount
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' HUP INT TERM

in_repository() {
    GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null git -C "$work/git/site" \
        -c user.name=Test -c user.email=test@example.com -c commit.gpgSign=false "$@"
}

# Another program may take a free port a moment later, so try again.
serve_repository() {
    mkdir -p "$work/git/site"
    in_repository init --quiet --initial-branch=main
    printf 'Read me.\n' >"$work/git/site/README.md"
    in_repository add .
    in_repository commit --quiet -m 'Say what to do'
    for _ in 1 2 3 4 5; do
        port=$(shuf -i 20000-60000 -n 1)
        git daemon --reuseaddr --listen=127.0.0.1 --port="$port" --export-all --base-path="$work/git" "$work/git" \
            2>/dev/null &
        server=$!
        for _ in $(seq 100); do
            if git ls-remote "git://127.0.0.1:$port/site" >/dev/null 2>&1; then
                running="$running $server"
                return
            fi
            kill -0 "$server" 2>/dev/null || break
            sleep 0.1
        done
        kill "$server" 2>/dev/null || true
    done
    fail 'no git server came up on this machine'
}

# Waits until a server listens on a socket.
wait_for() {
    for _ in $(seq 600); do
        [ ! -S "$2" ] || return 0
        kill -0 "$1" 2>/dev/null || fail "the program for $2 ended"
        sleep 0.1
    done
    fail "nothing listens on $2"
}

# Runs csi-sanity against a new driver. Arguments: the driver's mode, the minimum of passes, more flags of csi-sanity.
check() {
    mode=$1 least=$2
    shift 2
    place=$work/$mode
    mkdir -p "$place/kubelet"
    printf '{"store": "%s/store", "allowedSchemes": ["git"], "allowLoopback": true, "cache": {"reserveBytes": "0"}}' \
        "$place" >"$place/config.json"
    printf 'repository: git://127.0.0.1:%s/site\nrevision: main\n' "$port" >"$place/parameters.yaml"
    printf '\n== gitrepo-csi --mode %s\n' "$mode"
    "$GITREPO_CSI" --mode "$mode" --node-id conformance --endpoint "unix://$place/csi.sock" --config "$place/config.json" \
        --kubelet-dir "$place/kubelet" --http 127.0.0.1:0 --log-format text >"$place/log" 2>&1 &
    driver=$!
    running="$running $driver"
    wait_for "$driver" "$place/csi.sock"
    status=0
    "$CSI_SANITY" --csi.endpoint="unix://$place/csi.sock" --csi.mountdir="$place/kubelet/mount" \
        --csi.stagingdir="$place/kubelet/staging" --csi.testvolumeparameters="$place/parameters.yaml" \
        --ginkgo.no-color "$@" >"$place/report" 2>&1 || status=$?
    counts=$(sed -n 's/^\(FAIL\|SUCCESS\)! -- //p' "$place/report")
    count() { printf '%s\n' "$counts" | sed -n "s/^.*\b\([0-9][0-9]*\) $1.*\$/\1/p"; }
    passed=$(count Passed) failed=$(count Failed)
    printf '%s\n' "${counts:-csi-sanity printed no counts}"
    if [ "$status" != 0 ] || [ "${failed:-1}" != 0 ] || [ "${passed:-0}" -lt "$least" ]; then
        printf '\n-- csi-sanity\n'
        tail -n 200 "$place/report"
        printf '\n-- the driver\n'
        tail -n 50 "$place/log"
        fail "--mode $mode: at least $least must pass, and none may fail"
    fi
    if grep -qF " $place/kubelet" /proc/self/mountinfo; then
        fail "--mode $mode: something is still mounted"
    fi
    kill "$driver"
    running=${running% "$driver"}
    wait "$driver" || fail "--mode $mode: the driver failed when it was stopped"
}

serve_repository
check all "$passes_of_all"

"$GITREPO_TEST_CONTROLLER" "$work/controller.sock" &
running="$running $!"
wait_for $! "$work/controller.sock"
check node "$passes_of_node" --csi.controllerendpoint="unix://$work/controller.sock"
printf '\nconformance: passed\n'
