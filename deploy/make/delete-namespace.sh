#!/bin/sh
# Deletes the namespace KUBE_NAMESPACE, unless it is one of the cluster's own.
set -eu

case ${KUBE_NAMESPACE:?} in
default | kube-*)
    printf 'The namespace %s is not deleted: it is the cluster'\''s own.\n' "$KUBE_NAMESPACE" >&2
    exit 1
    ;;
esac
kubectl delete namespace --ignore-not-found "$KUBE_NAMESPACE"
