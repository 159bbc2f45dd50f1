#!/usr/bin/env bash
# Sets up the environment with the test requirements, then runs the tests, two files at a time. Arguments go to pytest.
set -euo pipefail
EXTRA_REQUIREMENTS=tests/requirements.txt
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
[ $# -gt 0 ] || set -- -n 2 --dist loadfile
exec "$PYTHON" -m pytest "$@"
