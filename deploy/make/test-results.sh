#!/bin/sh
# Waits for the test's deployments and prints the first lines that each serves. It fetches them through the API server,
# so it needs neither curl nor access to the cluster's network. Shows the pods and their warnings when it gives up.
set -eu

: "${KUBE_NAMESPACE:?}"
for number in 1 2; do
    kubectl -n "$KUBE_NAMESPACE" wait --for=condition=available "deployment/nginx-deployment$number" \
        --timeout="${WAIT_TIMEOUT:-180s}" || sh "$(dirname "$0")/give-up.sh" "$KUBE_NAMESPACE"
    printf '\nnginx%s serves:\n\n' "$number"
    page=$(kubectl get --raw "/api/v1/namespaces/$KUBE_NAMESPACE/services/nginx$number:80/proxy/")
    printf '%s\n' "$page" | sed 10q
done
