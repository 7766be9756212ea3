#!/bin/sh
# Builds the image. `make image` calls it with these environment variables:
#
#   REFERENCE    the image's name and tag
#   BINARIES     directory with the static programs [default: built by deploy/static.sh]
#   DOCKERFILE   deploy/image/Dockerfile, or deploy/image/Dockerfile.build, which needs no BINARIES
#   CA_BUNDLE    certificate authorities, PEM [default: this machine's]
#   BUILDER      docker, podman or buildah [default: the first that works]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/deploy/image/builder.sh"
: "${REFERENCE:?}" "${BINARIES:=}" "${DOCKERFILE:=$root/deploy/image/Dockerfile}"

clean_up() { rm -rf "$context"; }

# A separate directory, so that nothing else gets into the image.
collect() {
    if [ -z "$BINARIES" ]; then
        built=$(sh "$root/deploy/static.sh")
        BINARIES=$(dirname "$(printf '%s\n' "$built" | sed 1q)")
    fi
    context=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' HUP INT TERM
    for program in gitrepo-flex gitrepo-flex-install gitrepo-csi gitrepo-cli; do
        install -m 0755 "$BINARIES/$program" "$context/$program"
    done
    install -m 0644 "$(ca_bundle)" "$context/ca-certificates.crt"
    mkdir "$context/licenses"
    install -m 0644 "$root/LICENSE" "$root/NOTICE" "$root"/deploy/image/licenses/* "$context/licenses/"
}

ca_bundle() {
    for bundle in ${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem}; do
        if [ -s "$bundle" ]; then
            printf '%s\n' "$bundle"
            return
        fi
    done
    printf 'No certificate authorities on this machine: install ca-certificates, or set CA_BUNDLE to a file\n' >&2
    exit 1
}

case $DOCKERFILE in
*.build) context=$root ;;
*) collect ;;
esac

printf 'Building %s with %s\n' "$REFERENCE" "$builder"
# shellcheck disable=SC2086 # A command and its options.
$builder "$build" --tag "$REFERENCE" --file "$DOCKERFILE" ${PLATFORM:+--platform "$PLATFORM"} "$context"
