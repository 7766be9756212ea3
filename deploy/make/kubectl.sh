#!/bin/sh
# Installs kubectl KUBECTL_VERSION into KUBECTL_DIR if kubectl is missing, after checking its checksum. Writes
# KUBE_CONFIG_BASE64, if set, to the file KUBECONFIG.
set -eu

releases=${KUBECTL_RELEASES:-https://dl.k8s.io/release}

fail() {
    printf 'kubectl_dependencies: %s\n' "$*" >&2
    exit 1
}

clean_up() { rm -rf "$work"; }

install_kubectl() {
    case $(uname -m) in
    x86_64) processor=amd64 ;;
    aarch64) processor=arm64 ;;
    *) fail "there is no kubectl for $(uname -m) to download" ;;
    esac
    url=$releases/v${KUBECTL_VERSION:?}/bin/linux/$processor/kubectl
    work=$(mktemp -d)
    trap clean_up EXIT
    curl --fail --silent --show-error --location --output "$work/kubectl" "$url" || fail "cannot download $url"
    curl --fail --silent --show-error --location --output "$work/checksum" "$url.sha256" ||
        fail "cannot download $url.sha256"
    printf '%s  %s\n' "$(cut -d ' ' -f 1 "$work/checksum")" "$work/kubectl" | sha256sum --check --status ||
        fail "$url does not match its checksum"
    install -D -m 0755 "$work/kubectl" "${KUBECTL_DIR:=/usr/local/bin}/kubectl"
    printf 'Installed kubectl %s in %s\n' "$KUBECTL_VERSION" "$KUBECTL_DIR"
    PATH=$KUBECTL_DIR:$PATH
}

command -v kubectl >/dev/null 2>&1 || install_kubectl

if [ -n "${KUBE_CONFIG_BASE64:-}" ]; then
    [ -n "${KUBECONFIG:-}" ] || fail 'set KUBECONFIG to the file to write KUBE_CONFIG_BASE64 to'
    mkdir -p "$(dirname "$KUBECONFIG")"
    (umask 077 && printf %s "$KUBE_CONFIG_BASE64" | base64 -d >"$KUBECONFIG")
fi

kubectl version --client
