#!/bin/bash
# `make e2e`: runs the scenes on the cluster of KUBECONFIG, where the drivers are installed, with a git server in a pod
# of the namespace gitrepo-e2e. Scenes that need the node's root, names or servers are skipped visibly.
#
#   SCENES="a b"          only these scenes
#   GIT_SERVER_IMAGE=…    an image with python3 and git that the cluster can get [default: Python's own]
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$PATH:$here/../../target/tools
image=docker.io/library/python:3.13-bookworm

render() {
    if command -v kustomize >/dev/null 2>&1; then
        kustomize build "$here/servers"
    else
        kubectl kustomize "$here/servers"
    fi | sed "s|image: $image|image: ${GIT_SERVER_IMAGE:-$image}|"
}

finish() {
    status=$?
    trap - EXIT HUP INT TERM
    printf '%s\n' "$manifests" | kubectl delete --ignore-not-found --wait -f - >/dev/null || status=1
    exit $status
}

manifests=$(render)
kubectl -n "${DRIVER_NAMESPACE:-kube-system}" get daemonset gitrepo-csi-node >/dev/null || {
    printf 'e2e: install the CSI driver first: docs/install-csi.md\n' >&2
    exit 1
}
trap finish EXIT
trap 'exit 130' HUP INT TERM
printf '%s\n' "$manifests" | kubectl apply -f - >/dev/null
kubectl -n gitrepo-e2e wait --for=condition=Ready pod/git-server --timeout=300s >/dev/null || {
    kubectl -n gitrepo-e2e describe pod git-server >&2
    exit 1
}
# Use its address: nodes may not resolve the cluster's names, and FlexVolume drivers run on the node.
address=$(kubectl -n gitrepo-e2e get pod git-server -o 'jsonpath={.status.podIP}')
case $address in *:*) address="[$address]" ;; esac
# shellcheck disable=SC2086 # A list of words.
GIT_SERVER=http://$address:8080 python3 -B "$here/run_scenes.py" cluster ${SCENES:-}
