#!/usr/bin/env bash
# Installs the outside clients of tests/clients under target/ and prints the folder; nothing is installed elsewhere.
#
#   tests/tools/clients.sh        the folder with the scripts and their packages
#
# Running it twice, or twice at once, is safe.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source="$root/tests/clients"
shelf="$root/target/tools/clients"

fail() {
    echo "clients.sh: $*" >&2
    exit 1
}

bin=$("$root/tests/tools/node.sh")
export PATH="$bin:$PATH"

# One folder a state of the sources: a script that was changed never runs with the packages of before.
state=$(cat "$source"/*.json "$source"/*.mjs | sha256sum | cut -c1-16)
folder="$shelf/$state"
if [ ! -e "$folder/.ready" ]; then
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -e "$folder/.ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$source"/*.json "$source"/*.mjs "$folder/"
        (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) ||
            fail "npm could not install the packages of tests/clients; is the registry reachable?"
        touch "$folder/.ready"
    fi
fi
echo "$folder"
