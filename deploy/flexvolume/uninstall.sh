#!/bin/sh
# Deletes the DaemonSet and removes the driver from every node. A node that still has volumes keeps it, and then this
# fails: end their pods, and run it again.
set -eu

here=$(dirname "$0")
: "${DRIVER_NAMESPACE:=kube-system}"
case ${OVERLAY:-} in
'' | deploy/flexvolume/base) OVERLAY=deploy/flexvolume/overlays/uninstall ;;
esac
export OVERLAY

sh "$here/apply.sh"
kubectl -n "$DRIVER_NAMESPACE" rollout status daemonset/gitrepo-flex-ds --timeout=300s
sh "$here/render.sh" | kubectl delete --ignore-not-found --wait -f -
