#!/usr/bin/env bash
# Puts a redis-server at hand and prints its path; nothing is installed system-wide, and no service is started.
#
#   tests/tools/redis.sh            $TOLLGATE_TEST_REDIS, else a redis-server on the PATH, else the distribution's
#   tests/tools/redis.sh --fetch    the distribution's in any case
#
# The distribution's packages are unpacked into target/tools/redis/. Running it twice, or twice at once, is safe.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/redis"
server="$shelf/redis-server"

fail() {
    echo "redis.sh: $*" >&2
    exit 1
}

if [ "${1:-}" != --fetch ]; then
    if [ -n "${TOLLGATE_TEST_REDIS:-}" ]; then
        [ -x "$TOLLGATE_TEST_REDIS" ] || fail "\$TOLLGATE_TEST_REDIS is '$TOLLGATE_TEST_REDIS', which is not an executable file"
        echo "$TOLLGATE_TEST_REDIS"
        exit 0
    fi
    if found=$(command -v redis-server); then
        echo "$found"
        exit 0
    fi
fi

if [ -x "$server" ]; then
    echo "$server"
    exit 0
fi

command -v apt-get >/dev/null || fail "there is no apt-get here; install Redis 7 or name one in TOLLGATE_TEST_REDIS"
mkdir -p "$shelf"
exec 9>"$shelf/.lock"
flock 9
if [ ! -x "$server" ]; then
    work=$(mktemp -d "$shelf/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # The libraries come along: what a machine has of them may be missing. The C library stays the machine's own.
    packages() {
        apt-cache depends redis-tools 2>/dev/null | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p' | grep -vx 'libc6'
    }
    if ! apt-cache show redis-tools >/dev/null 2>&1; then
        as_root=$([ "$(id -u)" = 0 ] || echo sudo)
        $as_root apt-get update -qq >&2
    fi
    # As root, apt would fetch as a user who cannot write here.
    (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq redis-tools redis-server $(packages) >&2) ||
        fail "the distribution's packages of Redis cannot be fetched (apt-get update may help)"
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/root"
    done
    rm -rf "$shelf/root"
    mv "$work/root" "$shelf/root"
    libraries=$(dirname "$(find "$shelf/root" -name 'libjemalloc.so*' | head -1)")
    cat >"$work/redis-server" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH="$libraries" exec "$shelf/root/usr/bin/redis-server" "\$@"
WRAPPER
    chmod 755 "$work/redis-server"
    "$work/redis-server" --version >/dev/null || fail "the distribution's redis-server does not run on this machine"
    mv "$work/redis-server" "$server"
fi
echo "$server"
