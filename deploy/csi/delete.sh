#!/bin/sh
# Deletes the CSI driver. Without it no kubelet can unmount its volumes, and their pods stay Terminating. So this is
# refused while pods have inline volumes of it or claims are bound to its PersistentVolumes. FORCE=true deletes it
# anyway.
set -eu

here=$(dirname "$0")
driver=csi.gitrepo.internal
# Name, phase and drivers of each, one per line.
pod='pod {.metadata.namespace}/{.metadata.name} {.status.phase}{range .spec.volumes[*]} {.csi.driver}{end}'
claim='claim {.spec.claimRef.namespace}/{.spec.claimRef.name} {.status.phase} {.spec.csi.driver}'
each() { printf '{range .items[*]}%s{"\\n"}{end}' "$1"; }

in_use() {
    found=$(kubectl get pods --all-namespaces -o "jsonpath=$(each "$pod")")
    # Pods that have ended no longer have volumes.
    printf '%s\n' "$found" | awk -v driver=$driver '$3 != "Succeeded" && $3 != "Failed" {
        for (i = 4; i <= NF; i++) if ($i == driver) { print "  " $1 " " $2; next }
    }'
    found=$(kubectl get persistentvolumes -o "jsonpath=$(each "$claim")")
    printf '%s\n' "$found" | awk -v driver=$driver '$3 == "Bound" && $4 == driver { print "  " $1 " " $2 }'
}

if [ "${FORCE:-false}" != true ]; then
    users=$(in_use)
    if [ -n "$users" ]; then
        printf 'The driver is in use:\n%s\nDelete these first, or run this again with FORCE=true.\n' "$users" >&2
        exit 1
    fi
fi
manifests=$(sh "$here/render.sh")
printf '%s\n' "$manifests" | kubectl delete --ignore-not-found --wait -f -

# Checks for a controller of an overlay that was not named.
controller='{range .items[*]}  {.metadata.namespace}/{.metadata.name}{"\n"}{end}'
left=$(kubectl get deployments --all-namespaces -l app.kubernetes.io/name=gitrepo-csi -o "jsonpath=$controller")
if [ -n "$left" ]; then
    printf 'The controller is still there:\n%s\nDelete it with the overlay that deployed it, for example\n  %s\n' \
        "$left" 'make delete-csi CSI_OVERLAY=deploy/csi/overlays/controller' >&2
    exit 1
fi
