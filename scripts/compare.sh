#!/usr/bin/env bash
# Compares several runs on one page: their results, their curves in one plot, and the settings that differ.
#   scripts/compare.sh results/ckpt/Weight/cub/RUN results/ckpt/Weight/cub/OTHER ...
#   OUT=comparison.html scripts/compare.sh ...             # default: scripts/out/comparison.html
set -euo pipefail

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
runs=()
for run in "$@"; do runs+=("$(absolute "$run")"); done
OUT=${OUT:+$(absolute "$OUT")}
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m evaluations.report "${OUT:-scripts/out/comparison.html}" ${runs[@]+"${runs[@]}"}
