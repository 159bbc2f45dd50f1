#!/usr/bin/env bash
# Draws and damages what users give, for longer than the tests do and otherwise every time: to be run every night.
#   FUZZ_CASES=20000 scripts/fuzz.sh     # that many cases of each kind, 2,000 unless set; arguments go to pytest
set -euo pipefail
export FUZZ_CASES=${FUZZ_CASES:-2000}
exec "$(dirname "${BASH_SOURCE[0]}")/run_tests.sh" tests/test_fuzz.py "$@"
