#!/usr/bin/env bash
# Puts Prometheus at hand, and prints the folder that holds `prometheus` and `promtool`; nothing is installed, and no service is started.
#
#   tests/tools/prometheus.sh            $TOLLGATE_TEST_PROMETHEUS, else the folder on the PATH, else the distribution's
#   tests/tools/prometheus.sh --fetch    the distribution's in any case
#
# The distribution's package is unpacked into target/tools/prometheus/. Running it twice, or twice at once, is safe.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shelf="$root/target/tools/prometheus"
folder="$shelf/root/usr/bin"

fail() {
    echo "prometheus.sh: $*" >&2
    exit 1
}

has_both() {
    [ -x "$1/prometheus" ] && [ -x "$1/promtool" ]
}

if [ "${1:-}" != --fetch ]; then
    if [ -n "${TOLLGATE_TEST_PROMETHEUS:-}" ]; then
        has_both "$TOLLGATE_TEST_PROMETHEUS" ||
            fail "\$TOLLGATE_TEST_PROMETHEUS is '$TOLLGATE_TEST_PROMETHEUS', which is no folder with prometheus and promtool"
        echo "$TOLLGATE_TEST_PROMETHEUS"
        exit 0
    fi
    if found=$(command -v promtool) && has_both "$(dirname "$found")"; then
        dirname "$found"
        exit 0
    fi
fi

if ! has_both "$folder"; then
    command -v apt-get >/dev/null ||
        fail "there is no apt-get here; install Prometheus 2.42 or newer and name its folder in TOLLGATE_TEST_PROMETHEUS"
    mkdir -p "$shelf"
    exec 9>"$shelf/.lock"
    flock 9
    if ! has_both "$folder"; then
        work=$(mktemp -d "$shelf/.fetch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        if ! apt-cache show prometheus >/dev/null 2>&1; then
            as_root=$([ "$(id -u)" = 0 ] || echo sudo)
            $as_root apt-get update -qq >&2
        fi
        # As root, apt would fetch as a user who cannot write here.
        (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq prometheus >&2) ||
            fail "the distribution's package of Prometheus cannot be fetched (apt-get update may help)"
        dpkg -x "$work"/prometheus_*.deb "$work/root"
        "$work/root/usr/bin/promtool" --version >/dev/null || fail "the distribution's promtool does not run on this machine"
        rm -rf "$shelf/root"
        mv "$work/root" "$shelf/root"
    fi
fi
echo "$folder"
