#!/bin/sh
# Prints the manifests that `make deploy-csi` applies: the kustomization CSI_OVERLAY, changed by those variables of the
# Makefile that differ from their defaults.
set -eu

cd "$(dirname "$0")/../.."
. deploy/make/render.sh
: "${CSI_OVERLAY:=deploy/csi/base}"
plugin=plugins/csi.gitrepo.internal

container() {
    if differs REFERENCE localhost/storage/gitrepo:latest; then
        printf 'image: "%s"\n' "$value"
    fi
    if [ "$1" = Deployment ]; then
        environment LOG_LEVEL=info=GITREPO_LOG_LEVEL
        return
    fi
    environment KUBELET_DIR=/var/lib/kubelet=GITREPO_KUBELET_DIR LOG_LEVEL=info=GITREPO_LOG_LEVEL
    if differs KUBELET_DIR /var/lib/kubelet; then
        cat <<END
volumeMounts:
  - { mountPath: /var/lib/kubelet/pods, \$patch: delete }
  - { name: pods, mountPath: "$value/pods", mountPropagation: Bidirectional }
END
    fi
}

volumes() {
    if [ "$1" = DaemonSet ] && differs KUBELET_DIR /var/lib/kubelet; then
        cat <<END
- { name: plugin, hostPath: { path: "$value/$plugin" } }
- { name: registration, hostPath: { path: "$value/plugins_registry" } }
- { name: pods, hostPath: { path: "$value/pods" } }
END
    fi
}

# DEBUG means the same as for the FlexVolume driver.
case ${DEBUG:-false} in
false) LOG_LEVEL=info ;;
*) LOG_LEVEL=debug ;;
esac
check_words "${DRIVER_NAMESPACE:-}" "${REFERENCE:-}" "${KUBELET_DIR:-}"
render "$CSI_OVERLAY" DaemonSet gitrepo-csi-node driver Deployment gitrepo-csi-controller driver
