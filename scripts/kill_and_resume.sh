#!/usr/bin/env bash
# Kills a training run 100 times (or KILLS times) at random moments, and resumes it each time. Then compares it with an
# undisturbed run: weights bit by bit, metrics line by line. Takes about 15 minutes on two cores.
set -euo pipefail
KILLS=${KILLS:-100} exec "$(dirname "${BASH_SOURCE[0]}")/run_tests.sh" tests/test_survival.py -k killed_at_any_moment -s "$@"
