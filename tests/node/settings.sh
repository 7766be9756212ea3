# Sourced by the node's scripts. Each value can be set in the environment.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)

# The kubelet's version. The control plane stays at a version that still supports older kubelets.
export KUBERNETES=${KUBERNETES:-v1.34.1}
export CONTROL_PLANE=${CONTROL_PLANE:-v1.34.1}
export CONTAINERD=${CONTAINERD:-v2.2.0}
export RUNC=${RUNC:-v1.3.3}
export PROVISIONER=${PROVISIONER:-v6.3.0}

# Built programs, by version; kept between runs.
export NODE_CACHE=${NODE_CACHE:-$HOME/.cache/gitrepo-node}
# All files of the node, deleted after each run. Not on a tmpfs, since containers use overlays of it.
export NODE_DIR=${NODE_DIR:-/var/tmp/gitrepo-node}
export NODE_LOG=${NODE_LOG:-$project/target/node/log}
export NODE_RUN=$NODE_DIR/run
export NODE_BIN=$NODE_DIR/bin

# Our own bridge without an uplink: nothing leaves the machine through it.
export NODE_NAME=gitrepo-node
export NODE_BRIDGE=gitrepo0
export NODE_IP=10.99.0.1
export SERVICE_NETWORK=10.96.0.0/16
export SERVICE_IP=10.96.0.1
export API_PORT=${API_PORT:-6443}

# The usual paths, so that the drivers are installed with their defaults.
export KUBELET_DIR=/var/lib/kubelet
export STORE=/var/lib/gitrepo
export PLUGIN_DIR=/usr/libexec/kubernetes/kubelet-plugins/volume/exec

export KUBECONFIG_NODE=$NODE_DIR/kubeconfig
export CONTAINERD_ADDRESS=$NODE_RUN/containerd.sock
export CONTAINERD_NAMESPACE=k8s.io

# The image of the drivers, which is imported, never pulled.
export CI_REGISTRY=${CI_REGISTRY:-gitrepo.test}
export CI_REPOSITORY=${CI_REPOSITORY:-storage}
export TAG=${TAG:-1}

PATH=$NODE_BIN:$PATH:/usr/local/go/bin:$project/target/tools:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'node: %s\n' "$*" >&2
    exit 1
}
