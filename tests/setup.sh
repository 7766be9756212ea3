#!/bin/sh
# Installs the tools for building and testing, or says what to install.
#
#   sh tests/setup.sh          for building and testing
#   sh tests/setup.sh build    for building, and for deploy/demo.sh
#   sh tests/setup.sh static   for building static binaries, with deploy/static.sh
#
# Quick if everything is installed; never prompts.
set -eu

scope=${1:-tests}
root=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
packages=

has() { command -v "$1" >/dev/null 2>&1; }
need() { packages="$packages $1"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

has cc && [ -e /usr/include/stdlib.h ] || need build-essential
has make || need make
has cmake || need cmake
# Building OpenSSL needs modules that Debian's perl-base lacks.
perl -MFindBin -MFile::Compare -MFile::Copy -MIPC::Cmd -e 1 2>/dev/null || need perl
has git || need git
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || need ca-certificates

# The tests build static binaries, too.
if [ "$scope" != build ]; then
    has musl-gcc || need musl-tools
    has readelf || need binutils
fi

if [ "$scope" = tests ]; then
    has ssh-keygen || need openssh-client
    has sshd || need openssh-server
    has gpg || need gpg
    has gpg-agent || need gpg-agent
    has mkfs.ext4 || need e2fsprogs
    has mkfs.xfs || need xfsprogs
    has fsck.erofs || need erofs-utils
    has unshare || need util-linux
    has losetup || need mount
    has curl || need curl
    has git-lfs || need git-lfs
    # Other git servers, and a proxy. The dulwich of Debian is for Debian's own Python.
    has nginx || need nginx-light
    has fcgiwrap || need fcgiwrap
    has lighttpd || need lighttpd
    /usr/bin/python3 -c 'import dulwich' 2>/dev/null || need python3-dulwich
    has tinyproxy || need tinyproxy
    # For rendering manifests and building images.
    sh "$root/tests/kustomize.sh" --check || has go || need golang-go
    (. "$root/deploy/image/builder.sh") 2>/dev/null || need buildah
fi

# The tests need an SSH server, the machine does not: keeps systemd from starting it.
without_starting() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -d /run/systemd/system ] || [ -e $policy ]; then
        "$@"
        return
    fi
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    "$@"
    rm -f $policy
    trap - EXIT HUP INT TERM
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update || fail "apt-get update failed; is there a network?"
    # shellcheck disable=SC2086 # A list of words.
    apt-get -qq install -y --no-install-recommends $packages >/dev/null || fail "could not install:$packages"
}

if [ -n "$packages" ]; then
    has apt-get || fail "please install the programs of these Debian packages, and run this again:$packages"
    [ "$(id -u)" = 0 ] || fail "please run this, and then try again: sudo apt-get install$packages"
    printf 'Installing%s\n' "$packages"
    without_starting install_packages
fi

[ "$scope" != tests ] || sh "$root/tests/kustomize.sh" || fail "could not build kustomize; is there a network?"

# The directory for sshd's privilege separation, gone after a reboot.
if [ "$scope" = tests ] && [ "$(id -u)" = 0 ]; then
    mkdir -p -m 0755 /run/sshd
fi

has cargo || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
has cargo || fail "please install Rust $wanted or newer: https://rustup.rs"
found=$(cargo --version | cut -d ' ' -f 2)
oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
[ "$oldest" = "$wanted" ] || fail "cargo is $found; please install Rust $wanted or newer: https://rustup.rs"

[ "$scope" != build ] || exit 0
target=$(uname -m)-unknown-linux-musl
libraries=$(rustc --print sysroot)/lib/rustlib/$target/lib
if [ ! -d "$libraries" ]; then
    has rustup || fail "this Rust is not rustup's; please install its standard library for $target"
    # In the project's directory, which may have its own toolchain.
    (cd "$root" && rustup target add "$target") || fail "rustup could not add $target; is there a network?"
    [ -d "$libraries" ] || fail "rustup added $target to another toolchain than cargo's; please run: rustup target add $target"
fi
