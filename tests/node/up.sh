#!/bin/bash
# Brings up the node: git servers and names, containerd, etcd, the control plane and the kubelet. Running programs stay
# as they are, so this also restarts programs that a scene killed. Builds nothing.
set -eu
. "$(dirname "$0")/settings.sh"
. "$here/processes.sh"

pki=$NODE_DIR/pki
etcd=http://127.0.0.1:23790
kubectl="kubectl --kubeconfig $KUBECONFIG_NODE"

# Another kubelet on this machine would lose its pods.
refuse_a_node() {
    [ ! -e "$NODE_RUN/mine" ] || return 0
    [ ! -e "$KUBELET_DIR/pods" ] || fail "this machine has a kubelet's $KUBELET_DIR; use another machine"
    # A store without volumes may be covered by a mount for a while.
    if [ -n "$(ls -A "$STORE/volumes" 2>/dev/null)" ]; then
        fail "this machine has volumes of gitrepo in $STORE; use another machine"
    fi
    mkdir -p "$NODE_RUN"
    # down.sh removes these, because they did not exist before.
    for directory in "$KUBELET_DIR" "$STORE" /run/gitrepo /usr/libexec/kubernetes /run/sshd; do
        [ -e "$directory" ] || printf '%s\n' "$directory"
    done >"$NODE_RUN/made-directories"
    touch "$NODE_RUN/mine"
}

network() {
    ip link show "$NODE_BRIDGE" >/dev/null 2>&1 || ip link add "$NODE_BRIDGE" type bridge
    ip address replace "$NODE_IP/24" dev "$NODE_BRIDGE"
    # The API server's service address: a forwarder listens there instead of a kube-proxy.
    ip address replace "$SERVICE_IP/32" dev "$NODE_BRIDGE"
    ip link set "$NODE_BRIDGE" up
    mkdir -p "$NODE_DIR/cni"
    # No default route: pods reach the node, each other and that address.
    cat >"$NODE_DIR/cni/10-node.conflist" <<END
{
  "cniVersion": "0.4.0",
  "name": "node",
  "plugins": [{
    "type": "bridge",
    "bridge": "$NODE_BRIDGE",
    "isGateway": false,
    "ipMasq": false,
    "hairpinMode": false,
    "ipam": {
      "type": "host-local",
      "dataDir": "$NODE_RUN/addresses",
      "ranges": [[{ "subnet": "10.99.0.0/24", "rangeStart": "10.99.0.10", "rangeEnd": "10.99.0.250" }]],
      "routes": [{ "dst": "$SERVICE_NETWORK", "gw": "$NODE_IP" }]
    }
  }]
}
END
}

# shared_directory <path> <directory of its files>: a shared mount, as / is under systemd.
shared_directory() {
    mkdir -p "$1" "$2"
    mountpoint -q "$1" || mount --bind "$2" "$1"
    mount --make-rshared "$1"
}

# The kubelet changes these; down.sh restores them.
remember_sysctls() {
    [ -e "$NODE_RUN/sysctls" ] || for key in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
        kernel.keys.root_maxkeys kernel.keys.root_maxbytes net.ipv4.ip_forward; do
        printf '%s=%s\n' "$key" "$(sysctl -n "$key")"
    done >"$NODE_RUN/sysctls"
}

control_plane() {
    start etcd etcd --name node --data-dir "$NODE_DIR/etcd" --unsafe-no-fsync \
        --listen-client-urls $etcd --advertise-client-urls $etcd \
        --listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800 \
        --initial-cluster node=http://127.0.0.1:23800
    wait_for 60 etcd 'its health' curl -fsS $etcd/health
    start kube-apiserver kube-apiserver --etcd-servers=$etcd --bind-address=127.0.0.1 --secure-port="$API_PORT" \
        --advertise-address="$NODE_IP" --endpoint-reconciler-type=none --service-cluster-ip-range=$SERVICE_NETWORK \
        --cert-dir="$NODE_RUN/apiserver" --authorization-mode=RBAC --allow-privileged=true \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file="$pki/service-accounts.pub" \
        --service-account-signing-key-file="$pki/service-accounts.key" \
        --kubelet-certificate-authority="$pki/ca.crt" \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$pki/apiserver-kubelet-client.key" --kubelet-preferred-address-types=InternalIP
    wait_for 120 kube-apiserver 'the API server' $kubectl get --raw /readyz
    start kube-controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.conf" \
        --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=false \
        --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
        --flex-volume-plugin-dir="$PLUGIN_DIR"
    start kube-scheduler kube-scheduler --kubeconfig="$pki/scheduler.conf" --bind-address=127.0.0.1 \
        --leader-elect=false
}

# Ready according to this kubelet, not to an earlier one.
node_ready() {
    local status seen
    read -r status seen < <($kubectl get node "$NODE_NAME" -o \
        'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}')
    [ "$status" = True ] && [ "$(date -d "$seen" +%s)" -ge "$(stat -c %Y "$NODE_RUN/kubelet.pid")" ]
}

kubelet() {
    local runtime=(--container-runtime-endpoint="unix://$CONTAINERD_ADDRESS")
    # Before 1.27 the kubelet must be told that the runtime is not docker.
    if command kubelet --help | grep -q -e '--container-runtime string'; then
        runtime+=(--container-runtime=remote)
    fi
    bash "$here/kubelet.sh" >"$NODE_RUN/kubelet.yaml"
    start kubelet kubelet --config="$NODE_RUN/kubelet.yaml" --kubeconfig="$pki/kubelet.conf" --root-dir="$KUBELET_DIR" \
        --hostname-override=$NODE_NAME --node-ip=$NODE_IP --v=2 "${runtime[@]}"
    wait_for 120 kubelet 'the node was ready' node_ready
}

refuse_a_node
mkdir -p "$NODE_LOG" "$PLUGIN_DIR" "$NODE_RUN/apiserver"
remember_sysctls
bash "$here/certificates.sh"
network
shared_directory "$KUBELET_DIR" "$NODE_DIR/kubelet"
shared_directory "$STORE" "$NODE_DIR/store"
bash "$here/repositories.sh"

environment="NODE_DIR=$NODE_DIR NODE_IP=$NODE_IP SERVICE_IP=$SERVICE_IP API_PORT=$API_PORT NODE_LOG=$NODE_LOG" \
    start servers python3 -B "$here/servers/main.py"
start sshd /usr/sbin/sshd -D -e -f "$NODE_DIR/ssh/sshd_config"
bash "$here/containerd.sh" >"$NODE_RUN/containerd.toml"
start containerd containerd --config "$NODE_RUN/containerd.toml"
control_plane
wait_for 60 containerd 'its socket' ctr version
kubelet
wait_for 60 kube-controller-manager 'the default service account' $kubectl -n default get serviceaccount default
