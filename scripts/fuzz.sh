#!/usr/bin/env bash
# Tests with random and damaged user input, for longer than the usual tests and with new cases each time. Run it every night.
#   FUZZ_CASES=20000 scripts/fuzz.sh     # number of cases for each fuzz test (default: 2,000); arguments go to pytest
set -euo pipefail
export FUZZ_CASES=${FUZZ_CASES:-2000}
exec "$(dirname "${BASH_SOURCE[0]}")/run_tests.sh" tests/test_fuzz.py "$@"
