# Sourced by the drivers' render.sh, from the project's directory: puts those of the Makefile's variables over a
# kustomization that differ from their defaults. Who sources it defines `container` and `volumes`, which print what is
# changed in a DaemonSet or Deployment, as YAML; their argument is which of the two.

fail() {
    printf 'deploy: %s\n' "$*" >&2
    exit 1
}

# Whether the variable $1 is set to something else than its default $2; sets `value`.
differs() {
    eval "value=\${$1:-$2}"
    [ "$value" != "$2" ]
}

# Prints the changed variables of a container, of those given as variable=default=name there. A list without entries would
# remove the base's.
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

# What the values become words of is YAML: none needs a character that means something there.
check_words() {
    for value; do
        case $value in
        *[!A-Za-z0-9_./:@~-]*) fail "not to be used as it is: '$value'" ;;
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
    # A DaemonSet must be there; a Deployment need not.
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
    # Kustomize takes paths only relative to its own directory, and two of these may run at once.
    mkdir -p target/deploy
    output=$(mktemp -d target/deploy/XXXXXX)
    trap clean_up EXIT
    trap 'exit 130' HUP INT TERM
    resource=$(realpath --relative-to="$output" "$1")
    shift
    kustomization "$resource" "$@" >"$output/kustomization.yaml"
    # Where tests/setup.sh puts it.
    PATH=$PATH:$PWD/target/tools
    if command -v kustomize >/dev/null 2>&1; then
        kustomize build "$output"
    else
        kubectl kustomize "$output"
    fi
}
