# Sourced by build.sh and push.sh: sets `builder` to the first of docker, podman and buildah that works. BUILDER chooses
# one, with its global options if need be.

works() { "$@" info >/dev/null 2>&1; }

# In a container without an overlay file system, buildah works only with plain copies.
for builder in "${BUILDER:-docker}" "${BUILDER:-podman}" "${BUILDER:-buildah}" "${BUILDER:-buildah --storage-driver vfs}" ''; do
    # shellcheck disable=SC2086 # A command and its options.
    if [ -z "$builder" ] || works $builder; then
        break
    fi
done
if [ -z "$builder" ]; then
    printf 'No working %s here. Images are built by docker (with its engine), podman or buildah.\n' \
        "${BUILDER:-docker, podman or buildah}" >&2
    exit 1
fi

# docker's subcommand has the same name in podman and buildah, except in old versions of buildah.
case $builder in
buildah*) build=bud ;;
*) build=build ;;
esac
