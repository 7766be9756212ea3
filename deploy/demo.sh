#!/bin/sh
# Builds gitrepo-cli, clones a repository with it and, as root, mounts it. Needs no cluster; leaves only the build.
#
#   sh deploy/demo.sh                              a small repository made for this
#   sh deploy/demo.sh <repository> [<revision>]    yours
set -eu

case ${1:-} in
-h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
repository=${1:-}
revision=${2:-}

say() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

# Unmounts first; if that fails, it names the mount and leaves everything in place.
clean_up() {
    status=$?
    trap - EXIT HUP INT TERM
    if is_mounted; then
        gitrepo-cli unmount "$work/mounted" --store "$work/store" || umount "$work/mounted" || true
    fi
    if is_mounted; then
        printf 'Still mounted, so not removed: %s\n' "$work" >&2
        exit 1
    fi
    rm -rf "$work"
    exit "$status"
}

is_mounted() { grep -qF " $work/" /proc/self/mountinfo; }

may_mount() {
    [ "$(id -u)" = 0 ] && mount -t tmpfs none "$work/mounted" 2>/dev/null && umount "$work/mounted"
}

in_demo() {
    GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null git -C "$work/demo" \
        -c user.name=Demo -c user.email=demo@example.com -c commit.gpgSign=false -c tag.gpgSign=false "$@"
}

# An executable, a link and two revisions: v1, and a later main.
make_repository() {
    mkdir -p "$work/demo/bin" "$work/demo/docs"
    in_demo init -q
    printf '#!/bin/sh\necho "Hello from v1"\n' >"$work/demo/bin/hello"
    chmod +x "$work/demo/bin/hello"
    printf 'A tree, exactly as committed.\n' >"$work/demo/docs/read me.md"
    ln -s 'docs/read me.md' "$work/demo/README.md"
    in_demo add .
    in_demo commit -q -m 'Say hello'
    in_demo tag -a v1 -m 'First release'
    printf '#!/bin/sh\necho "Hello from main"\n' >"$work/demo/bin/hello"
    in_demo commit -q -a -m 'Say hello from main'
    repository=file://$work/demo
    revision=v1
}

show() {
    # Only the first lines, for large repositories.
    printf '$ ls -lR %s\n' "$1"
    ls -lR "$1" | head -n 40
}

sh "$root/tests/setup.sh" build
command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH

say "Building gitrepo-cli (some minutes the first time)"
(cd "$root" && run cargo build --release --locked -p gitrepo-cli)
PATH=${CARGO_TARGET_DIR:-$root/target}/release:$PATH:/usr/sbin:/sbin

work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$work"
mkdir "$work/mounted"

if [ -z "$repository" ]; then
    say "Making a repository with two commits; the tag v1 is the first"
    make_repository
fi

say "Cloning: the tree of one revision in a plain directory"
run gitrepo-cli clone "$repository" "$work/clone" ${revision:+--revision "$revision"}
show "$work/clone"

if ! may_mount; then
    say "Mounting needs root, on a machine where root may mount: left out"
    exit
fi

say "Mounting: the same tree as a read-only volume"
run gitrepo-cli mount "$repository" "$work/mounted" --store "$work/store" ${revision:+--revision "$revision"}
show "$work/mounted"

say "Nobody can write to it"
printf '$ touch %s\n' "$work/mounted/new"
if touch "$work/mounted/new"; then
    printf 'demo: the volume was writable\n' >&2
    exit 1
fi

say "What is mounted, and away with it"
run gitrepo-cli ls --store "$work/store"
run gitrepo-cli unmount "$work/mounted" --store "$work/store"
