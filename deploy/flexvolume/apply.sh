#!/bin/sh
# Installs the driver on every node of the cluster. `make deploy` calls it; render.sh says what.
set -eu

here=$(dirname "$0")
: "${DRIVER_NAMESPACE:=kube-system}"

# Before anything is applied, so that nothing is applied when it fails.
manifests=$(sh "$here/render.sh")

if ! kubectl get namespace "$DRIVER_NAMESPACE" >/dev/null 2>&1; then
    kubectl create namespace "$DRIVER_NAMESPACE"
    # The installer writes to directories of the node.
    kubectl label namespace "$DRIVER_NAMESPACE" pod-security.kubernetes.io/enforce=privileged
fi
printf '%s\n' "$manifests" | kubectl apply -f -
