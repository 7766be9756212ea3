#!/bin/bash
# Builds and imports the images for pods of the node, without a registry. The images that the examples name are
# replaced: busybox by Debian's, and nginx by busybox's web server.
set -eu
. "$(dirname "$0")/settings.sh"

work=$NODE_DIR/images
rm -rf "$work"
mkdir -p "$work"/{pause,busybox/{bin,etc,tmp,root},nginx,provisioner}

# import <image> <directory> <entrypoint>…
import() {
    local image=$1 directory=$2
    shift 2
    python3 "$here/images/pack.py" "$image" "$directory" "$work/image.tar" "$@"
    ctr images import "$work/image.tar" >/dev/null 2>&1 || fail "containerd did not take $image"
}

musl-gcc -static -O2 -s -o "$work/pause/pause" "$here/images/pause.c"

cp /bin/busybox "$work/busybox/bin/"
/bin/busybox --list | while read -r program; do
    [ "$program" = busybox ] || ln -s busybox "$work/busybox/bin/$program"
done
printf 'root:x:0:0::/root:/bin/sh\n' >"$work/busybox/etc/passwd"
printf 'root:x:0:\n' >"$work/busybox/etc/group"
chmod 1777 "$work/busybox/tmp"

cp -a "$work/busybox/." "$work/nginx/"
printf 'I:README.md\n' >"$work/nginx/etc/httpd.conf"

cp -L "$NODE_BIN/csi-provisioner" "$work/provisioner/"

import gitrepo.test/pause:1 "$work/pause" /pause
for image in $(grep -hoE 'image: [^ ]*(busybox|nginx):[0-9.]+' "$project"/deploy/csi/examples/*.yaml | sort -u); do
    case $image in
    */busybox:*) import "$image" "$work/busybox" /bin/sh ;;
    */nginx:*) import "$image" "$work/nginx" /bin/httpd -f -p 80 -c /etc/httpd.conf -h /usr/share/nginx/html ;;
    esac
done
controller=$project/deploy/csi/components/controller/deployment.yaml
provisioner=$(sed -n 's/^ *image: \(.*csi-provisioner.*\)$/\1/p' "$controller")
import "$provisioner" "$work/provisioner" /csi-provisioner
rm -rf "$work"
