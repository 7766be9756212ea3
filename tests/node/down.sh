#!/bin/bash
# Removes the node: pods, processes, mounts, the bridge, and every directory and setting that up.sh created or changed.
# Logs and NODE_CACHE stay. Fails if anything is left.
set -u
. "$(dirname "$0")/settings.sh"
. "$here/processes.sh"

[ -e "$NODE_RUN/mine" ] || exit 0
export KUBECONFIG=$KUBECONFIG_NODE

mounts_below() { awk -v path="$1" 'index($5, path "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r; }
unmount_below() { mounts_below "$1" | while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done; }

end_pods() {
    alive kube-apiserver && alive kubelet || return 0
    # Delete users of volumes before the drivers, which must unmount them.
    timeout 60 kubectl delete deployments,daemonsets --all --wait=false
    timeout 90 kubectl delete pods --all --grace-period=1 --timeout=60s
    timeout 60 kubectl delete deployments,daemonsets -n kube-system --all --wait=false
    timeout 60 kubectl delete pods -A --all --grace-period=1 --timeout=40s
}

end_containers() {
    alive containerd || return 0
    for task in $(timeout 10 ctr task ls -q); do timeout 10 ctr task kill -a -s SIGKILL "$task"; done
    for task in $(timeout 10 ctr task ls -q); do timeout 10 ctr task rm -f "$task"; done
    for container in $(timeout 10 ctr container ls -q); do timeout 10 ctr container rm "$container"; done
}

# A scene may have killed containerd; nothing else tracks its shims.
end_shims() {
    local file pid
    grep -lsa -F "$CONTAINERD_ADDRESS" /proc/[0-9]*/cmdline | while read -r file; do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        case $(readlink "/proc/$pid/exe") in */containerd-shim-runc-v2) kill -KILL "$pid" ;; esac
    done
}

# Only our kubelet makes these.
end_cgroups() {
    local group pid
    find /sys/fs/cgroup -type d -path '*/kubepods*' 2>/dev/null | while read -r group; do
        while read -r pid; do kill -KILL "$pid"; done <"$group/cgroup.procs"
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null
        find /sys/fs/cgroup -maxdepth 2 -name 'kubepods*' 2>/dev/null | grep -q . || break
        sleep 0.3
    done
}

set_back() {
    while read -r setting; do sysctl -qw "$setting"; done <"$NODE_RUN/sysctls"
    [ ! -e "$NODE_RUN/made-user" ] || userdel git
    ip link delete "$NODE_BRIDGE"
    for chain in KUBE-KUBELET-CANARY KUBE-FIREWALL KUBE-MARK-DROP KUBE-MARK-MASQ KUBE-POSTROUTING; do
        for table in filter mangle nat; do remove_chain $table $chain; done
    done
}

# The kubelet creates some iptables chains.
remove_chain() {
    local rule
    command -v iptables >/dev/null 2>&1 || return 0
    iptables -w -t "$1" -S 2>/dev/null | grep -e "-j $2" | sed 's/^-A/-D/' | while read -r rule; do
        eval "iptables -w -t $1 $rule"
    done
    iptables -w -t "$1" -F "$2" && iptables -w -t "$1" -X "$2"
}

take_down() {
    end_pods
    stop kubelet
    end_containers
    for name in containerd kube-controller-manager kube-scheduler kube-apiserver etcd servers sshd; do stop $name; done
    end_shims
    end_cgroups
    for directory in "$KUBELET_DIR" "$STORE" "$NODE_DIR"; do unmount_below "$directory"; done
    umount "$KUBELET_DIR" "$STORE"
    for namespace in /run/netns/cni-*; do
        umount "$namespace"
        rm -f "$namespace"
    done
    set_back
    made="$(cat "$NODE_RUN/made-directories") $PLUGIN_DIR/piersharding~gitrepo /var/log/gitrepo-flex.log"
    # Never across a mount that still exists.
    rm -rf --one-file-system "$NODE_DIR"
    for directory in $made; do rm -rf --one-file-system "$directory"; done
}

left() {
    awk -v store="$STORE" -v kubelet="$KUBELET_DIR" -v node="$NODE_DIR" \
        'index($5, store) == 1 || index($5, kubelet) == 1 || index($5, node) == 1 { print "mount " $5 }' \
        /proc/self/mountinfo
    ! ip link show "$NODE_BRIDGE" >/dev/null 2>&1 || printf 'bridge %s\n' "$NODE_BRIDGE"
    for path in "$NODE_DIR" $made; do [ ! -e "$path" ] || printf 'directory %s\n' "$path"; done
    grep -lsa -e "$NODE_DIR" -e 'piersharding~gitrepo/' /proc/[0-9]*/cmdline | while read -r file; do
        case $(readlink "${file%cmdline}exe") in */grep) continue ;; esac
        words=$(tr '\0' ' ' 2>/dev/null <"$file")
        [ -z "$words" ] || printf 'process %s: %s\n' "$file" "$words"
    done
}

printf 'Removing the node\n'
mkdir -p "$NODE_LOG"
made=
take_down >"$NODE_LOG/down.log" 2>&1
found=$(left)
if [ -n "$found" ]; then
    printf 'Left over on this machine (see %s):\n%s\n' "$NODE_LOG/down.log" "$found" >&2
    exit 1
fi
