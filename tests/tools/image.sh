#!/usr/bin/env bash
# Builds the Dockerfile as it stands without a network, and runs what comes out as it would be run: as uid 65532, on a read-only root.
#
#   tests/tools/image.sh [CONTEXT]      CONTEXT: another folder with a Dockerfile and a crate, for work on this script
#   TWICE=1 tests/tools/image.sh        builds a second time, from nothing, and compares the two binaries
#
# The base images are stand-ins under the names that the Dockerfile gives: the Debian release of their names, and in the first of them this
# machine's own Rust. Crates come from this machine's cargo home. Debian's buildah, mmdebstrap, iproute2 and redis-tools are installed where
# they are missing; everything else is in one temporary folder (some 4 GB, under TMPDIR or /var/tmp), which goes when this ends.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
context=$(cd "${1:-$root}" && pwd)

fail() {
    echo "image.sh: $*" >&2
    exit 1
}

say() {
    echo "== $*"
}

[ "$(id -u)" = 0 ] || fail "root is needed, to make root file systems and to become another user; run it with sudo"
command -v cargo >/dev/null || fail "cargo is missing; install Rust (https://rustup.rs)"
if ! type -P buildah mmdebstrap ip redis-cli >/dev/null; then
    say "buildah, mmdebstrap, iproute2 and redis-tools, from Debian"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        buildah mmdebstrap iproute2 redis-tools debian-archive-keyring >/dev/null
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/tollgate-image.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"

# Its own storage, and no look at registries: a name that is not here is a failure.
mkdir -p "$work/containers"
printf 'unqualified-search-registries = []\nshort-name-mode = "disabled"\n' >"$work/containers/registries.conf"
printf '{"default":[{"type":"insecureAcceptAnything"}]}\n' >"$work/containers/policy.json"
export CONTAINERS_REGISTRIES_CONF="$work/containers/registries.conf" BUILDAH_ISOLATION=chroot
storage=(--root "$work/storage" --runroot "$work/runroot" --storage-driver vfs)
image() {
    buildah "${storage[@]}" "$@"
}

# --- the two bases -----------------------------------------------------------------------------------------------------------

named() {
    sed -n "s/^ARG $1=//p" "$context/Dockerfile" | head -1
}
rust_image=$(named RUST_IMAGE)
runtime_image=$(named RUNTIME_IMAGE)
suite=${rust_image##*-}
[ -n "$suite" ] && [ -n "$runtime_image" ] || fail "the Dockerfile names no RUST_IMAGE and RUNTIME_IMAGE"

runtime="base-files netbase tzdata libc6 libgcc-s1 libstdc++6 ca-certificates"

say "Debian $suite"
mkdir "$work/packages"
mmdebstrap --quiet --mode=root --variant=minbase --include=gcc,libc6-dev,ca-certificates \
    --customize-hook='mkdir "$1/packages"' \
    --customize-hook="chroot \"\$1\" sh -c 'cd /packages && apt-get -o APT::Sandbox::User=root download -qq $runtime'" \
    --customize-hook="copy-out /packages $work" \
    --customize-hook='rm -rf "$1/packages"' \
    "$suite" "$work/debian.tar" >&2 || fail "mmdebstrap could not make a root of Debian $suite"

say "$rust_image: that, and $(rustc --version)"
from=$(image from scratch)
folder=$(image mount "$from")
tar -x -f "$work/debian.tar" -C "$folder"
rm "$work/debian.tar"
toolchain="$folder/usr/local/rustup/toolchains/own"
mkdir -p "$toolchain" "$folder/usr/local/cargo"
sysroot=$(rustc --print sysroot)
cp -a "$sysroot/bin" "$toolchain/"
# Neither documentation nor other targets.
mkdir -p "$toolchain/lib/rustlib"
find "$sysroot/lib" -maxdepth 1 -type f -exec cp -a {} "$toolchain/lib/" \;
cp -a "$sysroot/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')" "$toolchain/lib/rustlib/"
image config --env RUSTUP_HOME=/usr/local/rustup --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$from"
image commit --quiet --rm "$from" "$rust_image" >/dev/null

say "$runtime_image: $runtime"
from=$(image from scratch)
folder=$(image mount "$from")
for package in "$work"/packages/*.deb; do
    dpkg -x "$package" "$folder"
done
cat "$folder"/usr/share/ca-certificates/mozilla/*.crt >"$folder/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$folder/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$folder/etc/group"
rm -rf "$folder"/usr/share/doc "$folder"/usr/share/ca-certificates
image config --user 65532 --workingdir /home/nonroot --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$from"
image commit --quiet --rm "$from" "$runtime_image" >/dev/null

# --- the build ---------------------------------------------------------------------------------------------------------------

say "crates, from this machine's cargo home"
(cd "$context" && cargo fetch --locked --quiet)
crates=${CARGO_HOME:-$HOME/.cargo}/registry

build() {
    # A cargo home of its own each time, so that nothing of one build is found by the next.
    rm -rf "$work/cargo"
    mkdir -p "$work/cargo/bin" "$work/cargo/registry"
    if [ -d "$crates" ]; then
        cp -a "$crates/index" "$crates/cache" "$work/cargo/registry/"
    fi
    printf '[net]\noffline = true\n' >"$work/cargo/config.toml"
    for tool in cargo rustc; do
        ln -s "/usr/local/rustup/toolchains/own/bin/$tool" "$work/cargo/bin/$tool"
    done
    # A network namespace without a network: chroot isolation knows the host's only, and so there is nothing behind it.
    unshare --net -- buildah "${storage[@]}" build --isolation chroot --platform "linux/$(dpkg --print-architecture)" \
        --pull-never --no-cache --format docker --signature-policy "$work/containers/policy.json" \
        --build-arg REVISION="$(git -C "$context" rev-parse HEAD 2>/dev/null || echo unknown)" \
        --volume "$work/cargo:/usr/local/cargo" --tag "$1" "$context"
}

say "the Dockerfile, without a network"
build tollgate:proof
container=$(image from --pull-never tollgate:proof)
tree=$(image mount "$container")
first=$(sha256sum "$tree/usr/local/bin/tollgate" | cut -c1-64)

# --- the run -----------------------------------------------------------------------------------------------------------------

image inspect --type image tollgate:proof >"$work/image.json"
"$root/tests/tools/run_image.py" "$tree" "$work/image.json" "$work/run"

say "size"
image push --quiet --signature-policy "$work/containers/policy.json" tollgate:proof "oci:$work/oci"
megabytes() {
    du -sb --apparent-size "$1" | awk '{ printf "%.1f MB", $1 / 1000000 }'
}
echo "   $(megabytes "$work/oci/blobs") to pull, $(megabytes "$tree") unpacked on this stand-in;" \
    "of it, $(megabytes "$tree/usr/local/bin/tollgate") are the binary"
echo "   sha256 of the binary: $first"

if [ -n "${TWICE:-}" ]; then
    say "the same again, from nothing"
    build tollgate:again
    second=$(sha256sum "$(image mount "$(image from --pull-never tollgate:again)")/usr/local/bin/tollgate" | cut -c1-64)
    [ "$first" = "$second" ] || fail "two builds of one source differ: $first, $second"
    echo "   the same binary, byte for byte"
fi
