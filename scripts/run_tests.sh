#!/usr/bin/env bash
# Sets up the environment with the test requirements, then runs the tests, two at a time. Arguments go to pytest.
set -euo pipefail
EXTRA_REQUIREMENTS=tests/requirements.txt
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

# The tests of the page need a browser. Without one they are skipped, with a message.
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if [ -z "${CHROMIUM:-}" ] && ! browser >/dev/null && command -v apt-get >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    echo "installing chromium for the tests of the page"
    packages() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get "$@" -qq </dev/null >/dev/null 2>&1; }
    packages install -y --no-install-recommends chromium ||
        { packages update && packages install -y --no-install-recommends chromium; } ||
        echo "chromium could not be installed; the tests of the page will be skipped"
fi

[ $# -gt 0 ] || set -- -n 2 --dist worksteal
exec "$PYTHON" -m pytest "$@"
