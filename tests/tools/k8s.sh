#!/usr/bin/env bash
# Installs what judges the manifests of k8s/ into a folder of its own under target/, and prints that folder; nothing is installed elsewhere.
#
#   tests/tools/k8s.sh       the folder: lib/ for Python, node_modules/ for Node.js
#
# kubernetes-validate carries the schemas of Kubernetes, @kubernetes-models/* the types of custom kinds. Running it twice, or twice at
# once, is safe.
set -euo pipefail

packages=(kubernetes-validate==1.37.0)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source="$root/tests/tools/k8s"
shelf="$root/target/tools/k8s"

fail() {
    echo "k8s.sh: $*" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip)"
state=$(cat "${BASH_SOURCE[0]}" "$source"/*.json "$source"/*.mjs | sha256sum | cut -c1-16)
folder="$shelf/$state"
if [ ! -e "$folder/.ready" ]; then
    # The types are written for Node.js 22 and newer; an older one of the machine's own runs them too.
    bin=$("$root/tests/tools/node.sh")
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -e "$folder/.ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/lib" "${packages[@]}" >&2 ||
            fail "pip could not install ${packages[*]}; is the package index reachable?"
        cp "$source"/*.json "$source"/*.mjs "$folder/"
        (cd "$folder" && PATH="$bin:$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) ||
            fail "npm could not install the packages of tests/tools/k8s; is the registry reachable?"
        touch "$folder/.ready"
    fi
fi
echo "$folder"
