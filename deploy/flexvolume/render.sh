#!/bin/sh
# Prints what `make deploy` applies: the kustomization OVERLAY, with those of the Makefile's variables put over it that
# differ from their defaults.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
: "${OVERLAY:=deploy/flexvolume/base}"

fail() {
    printf 'deploy: %s\n' "$*" >&2
    exit 1
}

# Whether the variable $1 is set to something else than its default $2; sets `value`.
differs() {
    eval "value=\${$1:-$2}"
    [ "$value" != "$2" ]
}

container() {
    if differs REFERENCE docker.io/piersharding/gitrepo:latest; then
        printf 'image: "%s"\n' "$value"
    fi
    # Variable, default, and its name in the container. A list without entries would remove the base's.
    entries=
    for entry in VENDOR=piersharding=GITREPO_FLEX_VENDOR DRIVER=gitrepo=GITREPO_FLEX_DRIVER DEBUG=false=DEBUG \
        KUBELET_DIR=/var/lib/kubelet=GITREPO_FLEX_KUBELET_DIR; do
        default=${entry#*=}
        if differs "${entry%%=*}" "${default%=*}"; then
            entries="$entries{ name: ${entry##*=}, value: \"$value\" }, "
        fi
    done
    if [ -n "$entries" ]; then
        printf 'env: [%s]\n' "${entries%, }"
    fi
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
        printf '              - { name: plugins, hostPath: { path: "%s" } }\n' "$value"
    fi
    if differs KUBELET_DIR /var/lib/kubelet; then
        printf '              - { name: pods, hostPath: { path: "%s/pods" } }\n' "$value"
    fi
}

kustomization() {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
    if differs DRIVER_NAMESPACE kube-system; then
        printf 'namespace: "%s"\n' "$value"
    fi
    cat <<END
resources:
  - $1
patches:
  - patch: |-
      apiVersion: apps/v1
      kind: DaemonSet
      metadata:
        name: gitrepo-flex-ds
      spec:
        template:
          spec:
            containers:
              - name: install
END
    container | sed 's/^/                /'
    volumes=$(volumes)
    if [ -n "$volumes" ]; then
        printf '            volumes:\n%s\n' "$volumes"
    fi
}

cd "$root"
# They become words of YAML, and need no character that means something there.
for value in "${DRIVER_NAMESPACE:-}" "${REFERENCE:-}" "${VENDOR:-}" "${DRIVER:-}" "${DEBUG:-}" "${PLUGIN_DIR:-}" \
    "${KUBELET_DIR:-}"; do
    case $value in
    *[!A-Za-z0-9_./:@~-]*) fail "not to be used as it is: '$value'" ;;
    esac
done
[ -f "$OVERLAY/kustomization.yaml" ] || fail "there is no $OVERLAY/kustomization.yaml"

# Kustomize takes paths only from its own directory.
output=target/deploy/flexvolume
mkdir -p "$output"
kustomization "$(realpath --relative-to="$output" "$OVERLAY")" >"$output/kustomization.yaml"
# Where tests/setup.sh puts it.
PATH=$PATH:$root/target/tools
if command -v kustomize >/dev/null 2>&1; then
    exec kustomize build "$output"
fi
exec kubectl kustomize "$output"
