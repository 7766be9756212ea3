#!/bin/sh
# Prints the manifests that `make deploy` applies: the kustomization OVERLAY, changed by those variables of the Makefile
# that differ from their defaults.
set -eu

cd "$(dirname "$0")/../.."
. deploy/make/render.sh
: "${OVERLAY:=deploy/flexvolume/base}"

container() {
    if differs REFERENCE localhost/storage/gitrepo:latest; then
        printf 'image: "%s"\n' "$value"
    fi
    environment VENDOR=piersharding=GITREPO_FLEX_VENDOR DRIVER=gitrepo=GITREPO_FLEX_DRIVER DEBUG=false=DEBUG \
        KUBELET_DIR=/var/lib/kubelet=GITREPO_FLEX_KUBELET_DIR
    if differs KUBELET_DIR /var/lib/kubelet; then
        cat <<END
volumeMounts:
  - { name: pods, mountPath: /var/lib/kubelet/pods, \$patch: delete }
  - { name: pods, mountPath: "$value/pods", mountPropagation: HostToContainer, readOnly: true }
END
    fi
}

volumes() {
    if differs PLUGIN_DIR /usr/libexec/kubernetes/kubelet-plugins/volume/exec; then
        printf -- '- { name: plugins, hostPath: { path: "%s" } }\n' "$value"
    fi
    if differs KUBELET_DIR /var/lib/kubelet; then
        printf -- '- { name: pods, hostPath: { path: "%s/pods" } }\n' "$value"
    fi
}

check_words "${DRIVER_NAMESPACE:-}" "${REFERENCE:-}" "${VENDOR:-}" "${DRIVER:-}" "${DEBUG:-}" "${PLUGIN_DIR:-}" \
    "${KUBELET_DIR:-}"
render "$OVERLAY" DaemonSet gitrepo-flex-ds install
