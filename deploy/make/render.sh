# Sourced by the drivers' render.sh, from the project's directory: changes a kustomization by those variables of the
# Makefile that differ from their defaults. The sourcing script defines `container` and `volumes`, which print the
# changes to a DaemonSet or Deployment as YAML; their argument says which of the two.

fail() {
    printf 'deploy: %s\n' "$*" >&2
    exit 1
}

# Whether the variable $1 differs from its default $2; sets `value`.
differs() {
    eval "value=\${$1:-$2}"
    [ "$value" != "$2" ]
}

# Prints the changed variables of a container, among arguments of the form variable=default=name-in-the-container.
# Prints nothing if none changed: an empty list would remove the base's.
environment() {
    entries=
    for entry; do
        default=${entry#*=}
        if differs "${entry%%=*}" "${default%=*}"; then
            entries="$entries{ name: ${entry##*=}, value: \"$value\" }, "
        fi
    done
    if [ -n "$entries" ]; then
        printf 'env: [%s]\n' "${entries%, }"
    fi
}

# The values are inserted into YAML, so characters that are special in YAML are refused.
check_words() {
    for value; do
        case $value in
        *[!A-Za-z0-9_./:@~-]*) fail "only letters, digits and _./:@~- are allowed: '$value'" ;;
        esac
    done
}

# patch <kind> <name> <container>
patch() {
    cat <<END
  - patch: |-
      apiVersion: apps/v1
      kind: $1
      metadata:
        name: $2
      spec:
        template:
          spec:
            containers:
              - name: $3
END
    container "$1" | sed 's/^/                /'
    changed=$(volumes "$1")
    if [ -n "$changed" ]; then
        printf '            volumes:\n'
        printf '%s\n' "$changed" | sed 's/^/              /'
    fi
    # The DaemonSet must exist; the Deployment is optional.
    if [ "$1" = Deployment ]; then
        printf '    target: { kind: %s, name: %s }\n' "$1" "$2"
    fi
}

# kustomization <resource> <kind> <name> <container> [<kind> …]
kustomization() {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
    if differs DRIVER_NAMESPACE kube-system; then
        printf 'namespace: "%s"\n' "$value"
    fi
    printf 'resources:\n  - %s\npatches:\n' "$1"
    shift
    while [ $# -gt 0 ]; do
        patch "$1" "$2" "$3"
        shift 3
    done
}

clean_up() { rm -rf "$output"; }

# render <kustomization> <kind> <name> <container> [<kind> …]
render() {
    [ -f "$1/kustomization.yaml" ] || fail "there is no $1/kustomization.yaml"
    # Kustomize accepts only paths relative to its own directory, and two of these scripts may run at once.
    mkdir -p target/deploy
    output=$(mktemp -d target/deploy/XXXXXX)
    trap clean_up EXIT
    trap 'exit 130' HUP INT TERM
    resource=$(realpath --relative-to="$output" "$1")
    shift
    kustomization "$resource" "$@" >"$output/kustomization.yaml"
    # The path where tests/setup.sh installs it.
    PATH=$PATH:$PWD/target/tools
    if command -v kustomize >/dev/null 2>&1; then
        kustomize build "$output"
    else
        kubectl kustomize "$output"
    fi
}
