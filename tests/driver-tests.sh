#!/bin/sh
# Runs the FlexVolume driver without a cluster: installs it into its own directory, and calls it as the kubelet does,
# with a git server on this machine. Needs root; leaves nothing behind, and its mounts are private.
#
#   sh tests/driver-tests.sh                     builds the driver first
#   GITREPO_FLEX=<binary> sh tests/driver-tests.sh      with its installer beside it
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    printf 'driver-tests: %s\n' "$*" >&2
    exit 1
}

if [ -z "${DRIVER_TESTS_INSIDE:-}" ]; then
    [ "$(id -u)" = 0 ] || fail 'mounting needs root'
    if [ -z "${GITREPO_FLEX:-}" ]; then
        sh "$root/tests/setup.sh" build
        command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
        (cd "$root" && cargo build --quiet --locked -p gitrepo-flex)
        GITREPO_FLEX=${CARGO_TARGET_DIR:-$root/target}/debug/gitrepo-flex
    fi
    export GITREPO_FLEX DRIVER_TESTS_INSIDE=1
    exec unshare --mount --propagation private sh "$0"
fi

clean_up() {
    status=$?
    trap - EXIT HUP INT TERM
    [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
    umount "$volume" 2>/dev/null || true
    rm -rf --one-file-system "$work"
    exit "$status"
}

installer=$(dirname "$GITREPO_FLEX")/gitrepo-flex-install
work=$(mktemp -d)
volume=$work/pods/0b710895-6481-4e79-99ad-481cc0a9df85/volumes/piersharding~gitrepo/site
trap clean_up EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$work"

# Hide the machine's own driver files.
for directory in /etc/gitrepo /var/log; do
    if [ -d "$directory" ]; then
        mount -t tmpfs none "$directory"
    fi
done

in_repository() {
    GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null git -C "$work/git/site" \
        -c user.name=Test -c user.email=test@example.com -c commit.gpgSign=false "$@"
}

# Another program may take a free port a moment later, so try again.
serve() {
    for _ in 1 2 3 4 5; do
        port=$(shuf -i 20000-60000 -n 1)
        git daemon --reuseaddr --listen=127.0.0.1 --port="$port" --export-all --base-path="$work/git" "$work/git" \
            2>/dev/null &
        server=$!
        for _ in $(seq 100); do
            if git ls-remote "git://127.0.0.1:$port/site" >/dev/null 2>&1; then
                return
            fi
            kill -0 "$server" 2>/dev/null || break
            sleep 0.1
        done
        kill "$server" 2>/dev/null || true
    done
    fail 'no git server came up on this machine'
}

# Calls the driver with only what the kubelet passes, and expects these parts in its one line.
call() {
    expected=$1
    shift
    printf '\n$ gitrepo %s\n' "$*"
    answer=$(cd / && env -i "$driver" "$@" 2>&1) || fail "exit status $?: $answer"
    printf '%s\n' "$answer"
    [ "$(printf '%s\n' "$answer" | wc -l)" = 1 ] || fail 'the answer is more than one line'
    for part in $expected; do
        case $answer in
        *"$part"*) ;;
        *) fail "the answer lacks $part" ;;
        esac
    done
}

options() {
    printf '{"kubernetes.io/fsType":"","kubernetes.io/pod.name":"nginx-0","kubernetes.io/pod.namespace":"default",'
    printf '"kubernetes.io/pod.uid":"0b710895-6481-4e79-99ad-481cc0a9df85","kubernetes.io/pvOrVolumeName":"site",'
    printf '"kubernetes.io/readwrite":"%s","kubernetes.io/serviceAccount.name":"default",' "$1"
    printf '"repo":"git://127.0.0.1:%s/site"}' "$port"
}

is_mounted() { grep -qF " $volume " /proc/self/mountinfo; }

check_tree() {
    is_mounted || fail 'nothing is mounted'
    [ "$(cat "$volume/README.md")" = 'Read me.' ] || fail 'README.md has other content'
    [ "$(ls -A "$volume")" = README.md ] || fail 'there is more than the tree'
}

check_gone() {
    ! is_mounted || fail 'still mounted'
    [ ! -e "$volume" ] || rmdir "$volume" || fail 'the kubelet could not remove the directory'
}

mkdir -p "$work/git/site" "$work/plugins" "$(dirname "$volume")"
in_repository init --quiet
printf 'Read me.\n' >"$work/git/site/README.md"
in_repository add .
in_repository commit --quiet -m 'Say what to do'
serve

printf '{"store": "%s/store", "allowedSchemes": ["git"], "allowLoopback": true, "cache": {"reserveBytes": "0"}}' "$work" \
    >"$work/config.json"
"$installer" install --plugin-dir "$work/plugins" --config "$work/config.json" --log-format text
driver=$work/plugins/piersharding~gitrepo/gitrepo
success='"status":"Success"'

call "$success \"attach\":false" init

call "$success" mount "$volume" "$(options ro)"
check_tree
if touch "$volume/new" 2>/dev/null; then
    fail 'the read-only volume was written'
fi
call "$success" mount "$volume" "$(options ro)"
call "$success" unmount "$volume"
check_gone

call "$success" mount "$volume" "$(options rw)"
check_tree
printf 'written\n' >"$volume/new" || fail 'the writable volume was not written'
call "$success" unmount "$volume"
call "$success" unmount "$volume"
check_gone

"$installer" uninstall --plugin-dir "$work/plugins" --config "$work/config.json" --log-format text
[ -z "$(ls -A "$work/plugins")" ] || fail 'the driver is still there'
printf '\ndriver-tests: passed\n'
