# Sourced by the builders: a Go module in its own directory, for building programs of other modules.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
# Go fetches a newer toolchain if a module asks for one.
export GOFLAGS=-mod=mod GOTOOLCHAIN=auto

start_module() {
    cd "$work"
    printf 'module build\n\ngo 1.24\n\n' >go.mod
}

# The path of the go.mod of <module>@<version>.
go_mod_of() { go mod download -json "$1" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p'; }

# Tests of dependencies may lack modules; the programs do not need those.
tidy() { go mod tidy -e >tidy.log 2>&1 || tail -n 5 tidy.log >&2; }

# build <file> <package> <option of go build>…
build() {
    local file=$1 package=$2 started=$SECONDS
    shift 2
    mkdir -p "$(dirname "$file")"
    # Under a temporary name first, so that the final name is always complete.
    CGO_ENABLED=${CGO_ENABLED:-0} nice -n 5 go build -trimpath -o "$file.new" "$@" "$package"
    mv "$file.new" "$file"
    printf 'Built %s in %s s\n' "$(basename "$file")" "$((SECONDS - started))"
}
