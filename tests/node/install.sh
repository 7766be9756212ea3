#!/bin/bash
# Installs both drivers on the node as docs/install-csi.md and docs/install-flexvolume.md describe, without a registry.
set -eu
. "$(dirname "$0")/settings.sh"
export KUBECONFIG=$KUBECONFIG_NODE

cd "$project"
# The image's certificate authorities, and that of the node's git server.
cat /etc/ssl/certs/ca-certificates.crt "$NODE_DIR/pki/ca.crt" >"$NODE_DIR/authorities.crt"
CA_BUNDLE=$NODE_DIR/authorities.crt make --no-print-directory archive ARCHIVE="$NODE_DIR/image.tar"
ctr --namespace k8s.io images import "$NODE_DIR/image.tar" >/dev/null 2>&1
rm -f "$NODE_DIR/image.tar"
# Another name of the same image, for the update in a scene.
image=$CI_REGISTRY/$CI_REPOSITORY/gitrepo
ctr --namespace k8s.io images tag "$image:$TAG" "$image:next"

make --no-print-directory deploy-csi wait-csi
make --no-print-directory deploy wait
