#!/usr/bin/env bash
# Kills a training run 100 times (or KILLS times), at moments drawn at random, resumes it each time, and compares it with one
# that was left alone: weights bit by bit, metrics line by line. Takes about 15 minutes on two cores.
set -euo pipefail
KILLS=${KILLS:-100} exec "$(dirname "${BASH_SOURCE[0]}")/run_tests.sh" tests/test_survival.py -k killed_at_any_moment -s "$@"
