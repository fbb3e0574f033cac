#!/usr/bin/env bash
# Installs schemathesis into a folder of its own under target/ and prints its command; nothing is installed elsewhere.
#
#   tests/tools/schemathesis.sh       the command's path
#
# Running it twice, or twice at once, is safe.
set -euo pipefail

version=4.32.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/schemathesis"
folder="$shelf/$version"

fail() {
    echo "schemathesis.sh: $*" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip)"
if [ ! -e "$folder/.ready" ]; then
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -e "$folder/.ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder/bin"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/lib" "schemathesis==$version" >&2 ||
            fail "pip could not install schemathesis $version; is the package index reachable?"
        printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 -c "from schemathesis.cli import schemathesis; schemathesis()" "$@"\n' \
            "$folder/lib" >"$folder/bin/schemathesis"
        chmod +x "$folder/bin/schemathesis"
        touch "$folder/.ready"
    fi
fi
echo "$folder/bin/schemathesis"
