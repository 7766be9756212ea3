# Sourced by node-test.sh and node-bench.sh. on_a_node <command>… brings up a node with both drivers, runs the command
# there, and removes the node in any case.

NODE_LOG=${NODE_LOG:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/node/$(date +%Y%m%d-%H%M%S)}
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

take_away() {
    status=$?
    trap - EXIT HUP INT TERM
    if [ -n "${KEEP:-}" ] && [ -e "$KUBECONFIG_NODE" ]; then
        printf '\nThe node is up: export KUBECONFIG=%s\nbash %s/down.sh removes it.\n' "$KUBECONFIG_NODE" "$here"
    else
        bash "$here/down.sh" || status=1
    fi
    printf 'Logs: %s\n' "$NODE_LOG"
    exit $status
}

on_a_node() {
    mkdir -p "$NODE_LOG"
    trap take_away EXIT
    trap 'exit 130' HUP INT TERM

    say 'Packages and programs'
    bash "$here/packages.sh"
    bash "$here/build.sh"
    say "A node with the kubelet $KUBERNETES"
    bash "$here/up.sh"
    bash "$here/images.sh"
    say 'The drivers'
    if ! bash "$here/install.sh" >"$NODE_LOG/install.log" 2>&1; then
        tail -n 20 "$NODE_LOG/install.log" >&2
        fail "the drivers could not be installed; see $NODE_LOG/install.log"
    fi
    say "$(basename "$3" .py | tr _ ' ')"
    export KUBECONFIG=$KUBECONFIG_NODE GIT_SERVER=http://$NODE_IP
    "$@"
}
