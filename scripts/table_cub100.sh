#!/usr/bin/env bash
# The README's table: UDML-SS, the same without rotation, and the supervised upper bound, over seeds, by the last step of
# a fixed budget of 150 steps. Each run takes about 12 minutes on a CPU core.
#   IMAGES=~/data/CUB100 scripts/table_cub100.sh [SEED ...]          # default: 0 1 2; then prints the table of all runs
set -euo pipefail

: "${IMAGES:?set IMAGES to a folder with train.txt and test.txt}"
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${ROOT:=results} in /*) ;; *) ROOT=$PWD/$ROOT ;; esac
export ROOT NET=EfficientNet-Lite0 WIDTH=128 ORIGIN_WIDTH=144 NUM_CLUSTERS=50 LR=0.0001 ROT_LR=0.0001 \
    EPOCHS=50 SAVE_STEP=25 DATA=$IMAGES

[ $# -gt 0 ] || set -- 0 1 2
for SEED in "$@"; do
    export SEED
    ROT=0.1 "$scripts/run_train_test.sh"
    ROT=0 "$scripts/run_train_test.sh"
    ROT=0.1 RUN_SUFFIX=-supervised TRAIN_FLAGS="--labels True ${TRAIN_FLAGS:-}" "$scripts/run_train_test.sh"
done

results() { ls "$ROOT/result/Weight/$(basename "$IMAGES")/"*"$1"*.json | grep -e "$2" | paste -sd,; }
"${PYTHON:-$scripts/../.venv/bin/python}" "$scripts/summarise.py" \
    "UDML-SS=$(results rot-0.1- 'BETA-2\(-seed-[0-9]*\)\?.json')" \
    "without rotation=$(results rot-0- '')" \
    "supervised upper bound=$(results rot-0.1- supervised)"
