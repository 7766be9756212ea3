#!/bin/sh
# Deletes the DaemonSet and removes the driver from every node. A node that still has volumes keeps it, and this script
# fails and says why: end the pods that use them, and run it again.
set -eu

here=$(dirname "$0")
case ${OVERLAY:-} in
'' | deploy/flexvolume/base) OVERLAY=deploy/flexvolume/overlays/uninstall ;;
esac
export OVERLAY

# An overlay that installs would leave the driver on the nodes and look as if it had removed it.
case $(sh "$here/render.sh") in
*'- uninstall'*) ;;
*)
    printf 'uninstall: %s does not uninstall; apply the patch of %s to it\n' \
        "$OVERLAY" deploy/flexvolume/overlays/uninstall >&2
    exit 1
    ;;
esac
sh "$here/../make/apply.sh" "$here/render.sh"
namespace=$(sh "$here/../make/namespace.sh" "$here/render.sh")

# New pods, so that messages of an earlier try do not count.
kubectl -n "$namespace" delete pods -l app=k8s-gitrepo-vol --timeout=60s ||
    printf 'Some pods are still there; is a node down?\n' >&2

# Why nodes refuse: the termination message of a container that has ended and not restarted (terminationMessagePolicy).
container='{.status.containerStatuses[0]'
one="{.spec.nodeName}|$container.state.running.startedAt}|$container.state.terminated.message}$container.lastState.terminated.message}"
refusals() {
    kubectl -n "$namespace" get pods -l app=k8s-gitrepo-vol -o "jsonpath={range .items[*]}$one{\"\\n\"}{end}" |
        awk -F '|' '$2 == "" && $3 != "" { print "  " $1 ": " $3 }'
}

# Waits up to five minutes; reports a refusal at once.
tries=100
until kubectl -n "$namespace" rollout status daemonset/gitrepo-flex-ds --timeout=2s >/dev/null 2>&1; do
    refused=$(refusals)
    if [ -n "$refused" ]; then
        printf 'The driver stays on these nodes; do what each says, and run this again:\n%s\n' "$refused" >&2
        exit 1
    fi
    tries=$((tries - 1))
    sleep 1
    [ "$tries" -gt 0 ] || sh "$here/../make/give-up.sh" "$namespace" app=k8s-gitrepo-vol
done
sh "$here/render.sh" | kubectl delete --ignore-not-found --wait -f -
