#!/bin/bash
# Builds the node's programs that NODE_CACHE lacks, each version once, from Go's module proxy. The first run takes half
# an hour on two cores; later runs take no time.
set -eu
. "$(dirname "$0")/settings.sh"

# missing <directory> <program>…: prints the programs that the cache lacks.
missing() {
    local directory=$NODE_CACHE/$1
    shift
    for program; do
        [ -x "$directory/$program" ] || printf '%s ' "$program"
    done
}

# kubernetes <version> <program>…
kubernetes() {
    local version=$1 wanted
    shift
    wanted=$(missing "kubernetes-$version" "$@")
    # shellcheck disable=SC2086 # A list of words.
    [ -z "$wanted" ] || bash "$here/build/kubernetes.sh" "$version" "$NODE_CACHE/kubernetes-$version" $wanted
}

# once <name> <version> <program>…
once() {
    local name=$1 version=$2
    shift 2
    [ -z "$(missing "$name-$version" "$@")" ] || bash "$here/build/$name.sh" "$version" "$NODE_CACHE/$name-$version"
}

kubernetes "$CONTROL_PLANE" kube-apiserver kube-controller-manager kube-scheduler
kubernetes "$KUBERNETES" kubelet
command -v kubectl >/dev/null 2>&1 || kubernetes "$CONTROL_PLANE" kubectl
once containerd "$CONTAINERD" containerd containerd-shim-runc-v2 ctr
once runc "$RUNC" runc
once provisioner "$PROVISIONER" csi-provisioner

# Link all of them into one directory for the node's PATH.
mkdir -p "$NODE_BIN"
for directory in "kubernetes-$CONTROL_PLANE" "containerd-$CONTAINERD" "runc-$RUNC" "provisioner-$PROVISIONER"; do
    ln -sf "$NODE_CACHE/$directory"/* "$NODE_BIN/"
done
ln -sf "$NODE_CACHE/kubernetes-$KUBERNETES/kubelet" "$NODE_BIN/kubelet"
ln -sf "$(command -v etcd)" "$NODE_BIN/etcd"
