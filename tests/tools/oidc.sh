#!/usr/bin/env bash
# Puts a certified OpenID provider (npm's oidc-provider) at hand, and prints the folder that holds it.
#
#   tests/tools/oidc.sh
#
# The packages are those of tests/tools/oidc/package-lock.json; they are kept in
# target/tools/oidc/. Running it twice, or twice at once, is safe.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source="$root/tests/tools/oidc"
shelf="$root/target/tools/oidc"

fail() {
    echo "oidc.sh: $*" >&2
    exit 1
}

bin=$("$root/tests/tools/node.sh")
export PATH="$bin:$PATH"

mkdir -p "$shelf"
exec 9>"$shelf/.lock"
flock 9
lock=$(sha256sum "$source/package-lock.json" "$source/package.json" | sha256sum | cut -c1-64)
if [ "$(cat "$shelf/.installed" 2>/dev/null)" != "$lock" ]; then
    rm -f "$shelf/.installed"
    cp "$source/package.json" "$source/package-lock.json" "$shelf/"
    (cd "$shelf" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >&2) || fail "npm ci failed in $shelf"
    echo "$lock" >"$shelf/.installed"
fi
for script in "$source"/*.mjs; do
    # Replaced whole, and only where it differs: another one may be reading it.
    if ! cmp -s "$script" "$shelf/${script##*/}"; then
        cp "$script" "$shelf/.new.mjs"
        mv "$shelf/.new.mjs" "$shelf/${script##*/}"
    fi
done
echo "$shelf"
