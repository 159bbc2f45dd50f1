#!/usr/bin/env bash
# Sets up the environment with the test requirements, then runs the tests; arguments go to pytest.
set -euo pipefail
EXTRA_REQUIREMENTS=tests/requirements.txt
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m pytest "$@"
