#!/bin/sh
# Applies what a driver's render.sh prints. `make deploy` and `make deploy-csi` call it.
#
#   sh deploy/make/apply.sh <render.sh>
set -eu

: "${DRIVER_NAMESPACE:=kube-system}"

# Before anything is applied, so that nothing is applied when it fails.
manifests=$(sh "$1")

if ! kubectl get namespace "$DRIVER_NAMESPACE" >/dev/null 2>&1; then
    kubectl create namespace "$DRIVER_NAMESPACE"
    # The pods use directories of the node.
    kubectl label namespace "$DRIVER_NAMESPACE" pod-security.kubernetes.io/enforce=privileged
fi
printf '%s\n' "$manifests" | kubectl apply -f -
