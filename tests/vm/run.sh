#!/bin/sh
# Runs suites, as root, in a virtual machine with Debian's kernel: project quotas and other things that the kernel of this
# machine may lack. The machine shows this one's files, changes nothing of them, and has no network.
#
#   sh tests/vm/run.sh                  the suites of project quotas
#   sh tests/vm/run.sh publish:: …      tests by parts of their names
#   VM_COMMAND='…' sh tests/vm/run.sh   another command
#
# Needs root, x86-64 Debian 12 or newer, qemu-system-x86 and 3 GB of memory. The processor is emulated, which works
# everywhere; VM_ACCELERATOR=kvm is faster where /dev/kvm works.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
place=$root/target/vm
# Modules in this order, after those that they need.
modules='virtio_pci 9pnet_virtio 9p overlay loop crc32c_generic erofs ext4 quota_v2 xfs'

fail() {
    printf 'vm: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

install_tools() {
    missing=
    has qemu-system-x86_64 || missing="$missing qemu-system-x86"
    has mkfs.xfs || missing="$missing xfsprogs"
    has modinfo || missing="$missing kmod"
    busybox=$(command -v busybox) && ! LC_ALL=C ldd "$busybox" >/dev/null 2>&1 || missing="$missing busybox-static"
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] && has apt-get || fail "please install these Debian packages:$missing"
    printf 'Installing%s\n' "$missing"
    # shellcheck disable=SC2086 # A list of words.
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null ||
        fail "could not install:$missing"
    busybox=$(command -v busybox)
}

# Unpacks Debian's kernel; installs nothing.
fetch_kernel() {
    [ ! -e "$place/kernel/complete" ] || return 0
    rm -rf "$place/kernel"
    mkdir -p "$place/kernel"
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || fail 'apt does not know linux-image-amd64; try apt-get update'
    printf 'Fetching %s\n' "$package"
    (cd "$place/kernel" && apt-get -qq download "$package") || fail "could not download $package"
    dpkg -x "$place/kernel/"*.deb "$place/kernel"
    rm "$place/kernel/"*.deb
    touch "$place/kernel/complete"
}

# Prints the file of a module after those of the modules that it needs. A module that is not a file is part of the kernel.
with_needed() {
    file=$(find "$tree" -name "$1.ko*" | head -n 1)
    [ -n "$file" ] || file=$(find "$tree" -name "$(printf %s "$1" | tr _ -).ko*" | head -n 1)
    [ -n "$file" ] || return 0
    for needed in $(modinfo -F depends "$file" | tr , ' ') $(modinfo -F softdep "$file" | sed -n 's/^pre: *//p'); do
        (with_needed "$needed")
    done
    printf '%s\n' "$file"
}

make_initramfs() {
    tree=$(echo "$place"/kernel/lib/modules/*)
    files=$place/initramfs
    rm -rf "$files"
    mkdir -p "$files/bin" "$files/modules" "$files/proc" "$files/sys" "$files/dev" "$files/files" "$files/layer" "$files/root"
    cp "$busybox" "$files/bin/busybox"
    cp "$root/tests/vm/init" "$files/init"
    chmod 755 "$files/init"
    for module in $modules; do
        with_needed "$module"
    done | awk '!seen[$0]++' >"$place/modules"
    while read -r file; do
        cp "$file" "$files/modules/"
        basename "$file"
    done <"$place/modules" >"$files/modules/order"
    printf '%s\n' "$root" >"$files/directory"
    printf '%s\n' "$1" >"$files/command"
    (cd "$files" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$place/initramfs.gz"
    rm -rf "$files"
}

build_tests() {
    sh "$root/tests/setup.sh" build
    has cargo || PATH=$HOME/.cargo/bin:$PATH
    cd "$root"
    cargo build --quiet --locked --workspace --all-targets
    cargo test --no-run --locked -p gitrepo-tests --test suites --message-format json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
install_tools
fetch_kernel

if [ -z "${VM_COMMAND:-}" ]; then
    suites=${VM_SUITES:-$(build_tests)}
    [ -x "$suites" ] || fail 'the tests were not built'
    [ $# -gt 0 ] || set -- quota::real
    built=${CARGO_TARGET_DIR:-$root/target}/debug
    VM_COMMAND="cd '$root/tests' && export HOME=/tmp GITREPO_TEST_BINARIES='$built' && '$suites' --test-threads 1 $*"
fi
make_initramfs "$VM_COMMAND"

# The output ends in the status of the command; a machine that hangs is ended.
# Read-only, so that nothing in the machine can change a file of this one.
printf 'Starting %s\n' "$(basename "$place"/kernel/boot/vmlinuz-*)"
timeout --foreground "${VM_TIMEOUT:-1800}" qemu-system-x86_64 -accel "${VM_ACCELERATOR:-tcg}" -cpu max -smp "$(nproc)" -m "${VM_MEMORY:-3G}" \
    -nodefaults -no-user-config -display none -serial stdio -no-reboot \
    -kernel "$place"/kernel/boot/vmlinuz-* -initrd "$place/initramfs.gz" \
    -append "console=ttyS0 quiet panic=-1 ${VM_APPEND:-}" \
    -virtfs local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap \
    -device virtio-rng-pci \
    </dev/null | sed -u 's,\r,,g' | tee "$place/output"
status=$(sed -n 's/^vm: status \([0-9]*\)$/\1/p' "$place/output" | tail -n 1)
[ -n "$status" ] || fail 'the machine ended without a status'
[ "$status" = 0 ] || exit "$status"
if grep -q '^SKIPPED .*quota' "$place/output"; then
    fail 'tests of project quotas were skipped'
fi
