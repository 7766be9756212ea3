#!/bin/sh
# Applies the manifests that a driver's render.sh prints. `make deploy` and `make deploy-csi` call it.
#
#   sh deploy/make/apply.sh <render.sh>
set -eu

: "${DRIVER_NAMESPACE:=kube-system}"

# Render first, so that nothing is applied if rendering fails.
manifests=$(sh "$1")

if ! kubectl get namespace "$DRIVER_NAMESPACE" >/dev/null 2>&1; then
    kubectl create namespace "$DRIVER_NAMESPACE"
    # The pods use the node's directories.
    kubectl label namespace "$DRIVER_NAMESPACE" pod-security.kubernetes.io/enforce=privileged
fi
printf '%s\n' "$manifests" | kubectl apply -f -
