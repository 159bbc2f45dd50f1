#!/usr/bin/env bash
# What is too long for each commit: all tests with those marked `nightly` and more examples of each property, long fuzzing,
# and a run that is killed 100 times. Takes an hour or two on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
EXAMPLES=${EXAMPLES:-10} scripts/run_tests.sh -n 2 --dist worksteal -m "nightly or not nightly" "$@"
scripts/fuzz.sh
scripts/kill_and_resume.sh
