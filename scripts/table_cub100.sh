#!/usr/bin/env bash
# Makes the table of UDML-SS, of UDML-SS without rotation, and of the same training with labels, over seeds, at the last step
# of a fixed budget of 150 steps. Each run takes about 10 minutes on a CPU core. Finished runs are not run again.
#   IMAGES=~/data/CUB100 scripts/table_cub100.sh [SEED ...]                       # default: 0 1 2
set -euo pipefail

: "${IMAGES:?set IMAGES to a folder with train.txt and test.txt}"
scripts=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${ROOT:=results} in /*) ;; *) ROOT=$PWD/$ROOT ;; esac
export ROOT DATA=$IMAGES NET=EfficientNet-Lite0 WIDTH=128 ORIGIN_WIDTH=144 NUM_CLUSTERS=50 LR=0.0001 ROT_LR=0.00001 \
    INIT=pca EPOCHS=50 SAVE_STEP=50

# row NAME METHOD ROT [SUFFIX]: makes the missing runs, and adds NAME=FILE,... of all seeds to the table's rows.
row() {
    local files=()
    for SEED in "${seeds[@]}"; do
        RESULT=$ROOT/table_cub100/$2-rot-$3${4:-}-seed-$SEED.json
        export SEED RESULT
        [ -e "$RESULT" ] || METHOD=$2 ROT=$3 RUN_SUFFIX=${4:-} "$scripts/run_train_test.sh"
        files+=("$RESULT")
    done
    rows+=("$1=$(IFS=,; echo "${files[*]}")")
}

seeds=("${@:-0}")
[ $# -gt 0 ] || seeds=(0 1 2)
rows=()
row "UDML-SS" udml_ss 0.1
row "UDML-SS without rotation" udml_ss 0
row "with labels" supervised 0.1
source "$scripts/setup_env.sh"
"$PYTHON" "$scripts/summarise.py" "${rows[@]}"
