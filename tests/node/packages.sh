#!/bin/bash
# Installs the Debian packages that the node needs, if missing.
set -eu
. "$(dirname "$0")/settings.sh"

[ "$(id -u)" = 0 ] || fail 'a node needs root: it mounts, makes a bridge and runs containers'

packages=
need() { packages="$packages $1"; }
has() { command -v "$1" >/dev/null 2>&1; }

has etcd || need etcd-server
[ -x /usr/lib/cni/bridge ] || need containernetworking-plugins
[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || need busybox-static
has sshd || need openssh-server
has ssh-keygen || need openssh-client
has openssl || need openssl
has python3 || need python3
has curl || need curl
has ip || need iproute2
has iptables || need iptables
has git || need git
[ -e /usr/include/seccomp.h ] || need libseccomp-dev
has pkg-config || need pkg-config
has go || need golang-go

if [ -n "$packages" ]; then
    has apt-get || fail "please install the programs of these Debian packages:$packages"
    printf 'Installing%s\n' "$packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # Do not start etcd and sshd on the machine.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    # shellcheck disable=SC2086 # A list of words.
    apt-get -qq install -y --no-install-recommends $packages >/dev/null
fi
# For the static binaries, the image and the manifests.
sh "$project/tests/setup.sh" static
(. "$project/deploy/image/builder.sh") 2>/dev/null || apt-get -qq install -y --no-install-recommends buildah >/dev/null
sh "$project/tests/kustomize.sh"
