#!/usr/bin/env bash
# The README's table: UDML-SS, the same without rotation, and the supervised upper bound, over seeds, by the last step of
# a fixed budget of 150 steps. Each run takes about 10 minutes on a CPU core; finished ones are not run again.
#   IMAGES=~/data/CUB100 scripts/table_cub100.sh [SEED ...]                       # default: 0 1 2
set -euo pipefail

: "${IMAGES:?set IMAGES to a folder with train.txt and test.txt}"
scripts=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${ROOT:=results} in /*) ;; *) ROOT=$PWD/$ROOT ;; esac
export ROOT DATA=$IMAGES NET=EfficientNet-Lite0 WIDTH=128 ORIGIN_WIDTH=144 NUM_CLUSTERS=50 LR=0.0001 ROT_LR=0.00001 \
    INIT=pca EPOCHS=50 SAVE_STEP=50

# row NAME ROT SUFFIX [FLAGS]: runs what is missing, and adds NAME=FILE,... of all seeds to the table's rows.
row() {
    local files=() suffix
    for SEED in "${seeds[@]}"; do
        suffix=$3
        if [ "$SEED" != 0 ]; then suffix=-seed-$SEED$3; fi
        file=$ROOT/result/Weight/$(basename "$IMAGES")/$NET-DIM-512-lr-$LR-ratio-0.16-BatchSize-80-rot_lr-$ROT_LR
        file+=-self_supervision_rot-$2-rot_bt-1-rot_batch-16-up_step-5-num_clusters-$NUM_CLUSTERS-ALPHA-40-BETA-2$suffix.json
        [ -e "$file" ] || SEED=$SEED ROT=$2 RUN_SUFFIX=$3 TRAIN_FLAGS="${4:-}" "$scripts/run_train_test.sh"
        files+=("$file")
    done
    rows+=("$1=$(IFS=,; echo "${files[*]}")")
}

seeds=("${@:-0}")
[ $# -gt 0 ] || seeds=(0 1 2)
rows=()
row "UDML-SS" 0.1 ""
row "without rotation" 0 ""
row "supervised upper bound" 0.1 -supervised "--labels True"
source "$scripts/setup_env.sh"
"$PYTHON" "$scripts/summarise.py" "${rows[@]}"
