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

# One that installs would leave the driver on the nodes, and look as if it had gone.
case $(sh "$here/render.sh") in
*'- uninstall'*) ;;
*)
    printf 'uninstall: %s does not uninstall; put the patch of %s over it\n' \
        "$OVERLAY" deploy/flexvolume/overlays/uninstall >&2
    exit 1
    ;;
esac
sh "$here/../make/apply.sh" "$here/render.sh"
kubectl -n "$DRIVER_NAMESPACE" rollout status daemonset/gitrepo-flex-ds --timeout=300s
sh "$here/render.sh" | kubectl delete --ignore-not-found --wait -f -
