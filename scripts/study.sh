#!/usr/bin/env bash
# Compares methods over sets and seeds under one protocol: the same net, crops and embedding size, on one CPU core, within one
# budget of time. The last step counts. Finished runs are not run again, and interrupted runs go on.
#   scripts/study.sh [SEED ...]                                                          # the demo set; default: seeds 0 1 2
#   SETS="cars=~/data/Cars196 mine=~/my_set demo" scripts/study.sh                       # any sets with train.txt and test.txt:
#       NAME=PATH, a PATH whose last part is the name, or demo. A path cannot have spaces: make a link to it.
#   METHODS="udml_ss shared_neighbours" scripts/study.sh 0                               # a part of the study
#   METHODS="udml_ss,LOSS=Triplet udml_ss,NUM_CLUSTERS=20 shared_neighbours,NEAR=0.5" scripts/study.sh     # with other settings
#       of run_train_test.sh, or flags of train.py
#   K=50 ...                    # the number of clusters in each set; default: the number of classes in its train.txt
#   STEPS=300 ... MINUTES=20 ...     # the budget: the time of STEPS steps of udml_ss (default: 150, on the demo 64), or
#       MINUTES of looks and steps. Dry runs tell how many epochs fit. ROOT/study/SET/budget/METHOD keeps this number, and you may
#       edit it before the method's first run. shared_neighbours keeps its 20 epochs. Entries with other settings take the method's
#       epochs, unless they say EPOCHS=...
#   JUDGE=0 ...                # skips the scores without labels; entries with NET=, WIDTH= or ORIGIN_WIDTH= never get them
#   HELD_OUT=1 ...              # to choose settings: tests on every second class of the training lists, trains on the others
#       with half of the steps
#   COMPARE="shared_neighbours udml_ss" SETS="mine=~/photos" scripts/study.sh [SEED ...] # photos without labels and lists: trains
#       each method (default: seed 0), then says which net to take, or none. Without K=..., udml_ss finds the number of clusters.
# Results go to ROOT/study (default: results/study). Tables and plot of all results go to scripts/out/study. Its results.json
# keeps the results of earlier studies and other machines; the tables show them too. With HELD_OUT=1 both folders are called
# study_held_out. COMPARE uses ROOT/compare, and makes no tables.
set -euo pipefail

scripts=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
here=$PWD
ROOT=${ROOT:-results}
case $ROOT in /*) ;; *) ROOT=$here/$ROOT ;; esac
source "$scripts/setup_env.sh"
unset READOUT NUM_INSTANCES UP_STEP ROT ROT_BATCH ROT_BT ROT_ONLY LOSS ALPHA BETA RATIO AMP INIT BATCH_SIZE TRAIN_FLAGS NPROC \
    SAVE_STEP SAVE_DIR RESULT FREEZE_BN POOL_FEATURE PRETRAINED WEIGHTS DATA_ROOT DRY_RUN
study=study
if [ "${HELD_OUT:-0}" != 0 ]; then study=study_held_out; fi
if [ -n "${COMPARE:-}" ]; then
    if [ $study != study ]; then fail "COMPARE needs no labels, and HELD_OUT splits by labels; give one of them"; fi
    study=compare METHODS=$COMPARE
    [ $# -gt 0 ] || set -- 0
fi
[ $# -gt 0 ] || set -- 0 1 2
export ROOT DEVICE=cpu OMP_NUM_THREADS=1 NET=EfficientNet-Lite0 WIDTH=128 ORIGIN_WIDTH=144 DIM=512 LR=0.0001 ROT_LR=0.00001 \
    TEST_FLAGS="--metrics recall map_at_r nmi"

# Sets each method's own settings. They follow its paper, or were chosen on classes held out from the training lists.
flags_of() { # METHOD
    case $1 in
        udml_ss | supervised) INIT=pca ;;
        stml) BATCH_SIZE=120 TRAIN_FLAGS="--init pca" ;;
        shared_neighbours) LR=0.0003 ;;
        cluster_contrast) TRAIN_FLAGS="--init pca --eps 0.5 --up_step 5" ;;
    esac
}

# Succeeds if run_train_test.sh passes a setting on to METHOD. UDML-SS and its kin get all settings, others only the common ones.
passes_on() { # NAME
    case $METHOD/$1 in
        udml_ss/* | supervised/*) ;;
        */INIT | */NUM_CLUSTERS | */UP_STEP | */LOSS | */ALPHA | */BETA | */NUM_INSTANCES | */ROT*) return 1 ;;
    esac
    grep -q "^$1=" "$scripts/run_train_test.sh"
}

# Calls run_train_test.sh with the settings of one run.
train_test() {
    export DATA IMAGES NUM_CLUSTERS INIT BATCH_SIZE TRAIN_FLAGS METHOD SEED RESULT RUN_SUFFIX EPOCHS SAVE_STEP SAVE_DIR \
        TEST_FLAGS LOSS READOUT DRY_RUN
    "$scripts/run_train_test.sh"
}

# Measures the looks and steps of a method by a dry run, in a shell of its own.
rehearse() { # METHOD
    local file=$results/budget/$1.dry_run
    METHOD=$1 SEED=0 EPOCHS=100 SAVE_STEP=100 READOUT=embedding DRY_RUN=1 RUN_SUFFIX=-study-dry_run
    flags_of "$1"
    echo "$set: measuring $1 by a dry run"
    train_test > "$file.part"
    mv "$file.part" "$file"
}

# Sets EPOCHS to what fills the budget. Measures what is needed for that, unless it is known.
fill_budget() { # METHOD
    local method missing
    missing=$("$PYTHON" scripts/study_budget.py missing "$results" "$1")
    for method in $missing; do (rehearse "$method"); done
    EPOCHS=$("$PYTHON" scripts/study_budget.py epochs "$results" "$1")
    echo "$set: $1 trains $EPOCHS epochs ($results/budget/$1 has the reason)"
}

# Applies the settings NAME=VALUE of a METHODS entry.
change() { # METHOD[,NAME=VALUE...]
    local changes entry name
    IFS=, read -ra changes <<<"$1"
    for entry in "${changes[@]:1}"; do
        RUN_SUFFIX+=-$entry
        name=${entry%%=*}
        if passes_on "$name"; then
            declare -gx "$entry"
        else
            TRAIN_FLAGS="${TRAIN_FLAGS:-} --${name,,} ${entry#*=}" # train.py refuses unknown flags
        fi
    done
}

# Trains and tests a method on the current set, in a shell of its own. COMPARE only trains.
run() { # METHOD[,NAME=VALUE...] SEED
    local place=$results/$1-seed-$2
    [ ! -e "$place.json" ] || return 0
    METHOD=${1%%,*} SEED=$2 RUN_SUFFIX=-study
    case $1 in *,EPOCHS=*) ;; *) fill_budget "$METHOD" ;; esac
    flags_of "$METHOD"
    change "$1"
    SAVE_STEP=${SAVE_STEP:-$(((EPOCHS + 1) / 2))} # two points for its curve
    if [ $study = compare ]; then
        SAVE_DIR=$place
        [ -e "$place/ckp_ep$EPOCHS.pth.tar" ] || train_test
        return
    fi
    if [ "$METHOD" != closed_form ]; then TEST_FLAGS+=" --pretrained False"; fi # the frozen net is tested once
    RESULT=$place.part
    train_test
    mv "$RESULT" "$place.json"
}

# Calls test.py to score nets of the current set, and the net before training, without labels.
select_net() { # RESULT_FILE CHECKPOINT_OR_FOLDER ...
    "$PYTHON" test.py --data "$DATA" --net "$NET" --device cpu --select --pretrained True --readout embedding closed_form \
        --metrics recall --report no --resume "${@:2}" --save_json "$1" --log_file "scripts/out/$study-$set.log"
}

# Judges the nets of the current set that have no scores without labels yet.
judge() {
    local file=$results/label_free.json due nets
    touch "$file.begun" # nets saved from now on are judged next time
    due=$("$PYTHON" scripts/study.py due "$results")
    if [ -z "$due" ]; then return; fi
    readarray -t nets <<<"$due"
    select_net "$file.part" "${nets[@]}"
    "$PYTHON" scripts/study.py add "$file.part" "$results"
    touch -r "$file.begun" "$file"
}

# Lists the runs of a set: a line `METHOD SEED` for each.
runs() { # SEED ...
    local method seed
    for seed in "$@"; do
        for method in ${METHODS:-closed_form udml_ss stml cluster_contrast shared_neighbours supervised}; do
            if [ "$method" != closed_form ] || [ "$seed" = 0 ]; then echo "$method $seed"; fi # no seed decides it
        done
    done
}

# Trains, tests and judges all runs of the current set. COMPARE says which net to take.
study_set() { # SEED ...
    local each todo nets=()
    results=$ROOT/$study/$set
    readarray -t todo < <(runs "$@")
    for each in "${todo[@]}"; do
        (run "${each% *}" "${each#* }")
        nets+=("$results/${each/ /-seed-}")
    done
    if [ $study = compare ]; then
        select_net "$results/label_free.json" "${nets[@]}"
    elif [ "${JUDGE:-1}" != 0 ]; then
        judge
    fi
}

sets=$("$PYTHON" scripts/study_sets.py --sets "${SETS:-demo}" --here "$here" --root "$ROOT" --study $study \
    --clusters "${K:-}" --steps "${STEPS:-}" --minutes "${MINUTES:-}")
readarray -t lines <<<"$sets"
for line in "${lines[@]}"; do
    IFS=$'\t' read -r set DATA NUM_CLUSTERS IMAGES <<<"$line"
    study_set "$@"
done
if [ $study != compare ]; then "$PYTHON" scripts/study.py "$ROOT/$study" "scripts/out/$study"; fi
