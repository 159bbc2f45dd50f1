#!/usr/bin/env bash
# Compares methods over sets and seeds under one protocol: the same net, crops and embedding size, on one CPU core. The budget
# is about the wall time of 150 steps of UDML-SS (64 on the demo); the last step counts. Finished runs are not run again, and
# interrupted runs go on.
#   CUB100=~/data/CUB100 GROCERY=~/data/GroceryStore scripts/study.sh [SEED ...]         # default: 0 1 2
#   METHODS="udml_ss shared_neighbours" SETS=demo scripts/study.sh 0                     # a part of the study
#   METHODS="udml_ss,LOSS=Triplet udml_ss,NUM_CLUSTERS=20 shared_neighbours,FOLLOW=0" scripts/study.sh     # with other settings
#       of run_train_test.sh, or flags of train.py
#   JUDGE=0 ...                                                                          # skips the scores without labels
#   HELD_OUT=1 ...              # to choose settings: tests on every second class of the training lists, trains on the others
# Results go to ROOT/study (default: results/study). Tables and plot of all results go to scripts/out/study. With HELD_OUT=1
# both folders are called study_held_out.
set -euo pipefail

scripts=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
ROOT=$(absolute "${ROOT:-results}")
CUB100=${CUB100:+$(absolute "$CUB100")}
GROCERY=${GROCERY:+$(absolute "$GROCERY")}
source "$scripts/setup_env.sh"
unset READOUT NUM_INSTANCES UP_STEP ROT ROT_BATCH ROT_BT ROT_ONLY LOSS ALPHA BETA RATIO AMP INIT BATCH_SIZE TRAIN_FLAGS NPROC \
    SAVE_STEP FREEZE_BN POOL_FEATURE PRETRAINED WEIGHTS
if [ "${HELD_OUT:-0}" != 0 ]; then study=study_held_out; else study=study; fi
export ROOT DEVICE=cpu OMP_NUM_THREADS=1 NET=EfficientNet-Lite0 WIDTH=128 ORIGIN_WIDTH=144 DIM=512 LR=0.0001 ROT_LR=0.00001 \
    TEST_FLAGS="--metrics recall map_at_r nmi"

# Sets a set's number of clusters (the true one, for methods that need it) and, for each method, the epochs that fill the
# budget.
settings() {
    case $1 in
        CUB100) DATA=$CUB100 NUM_CLUSTERS=50 EPOCHS_udml_ss=50 EPOCHS_stml=3 EPOCHS_cluster_contrast=55 ;;
        GroceryStore) DATA=$GROCERY NUM_CLUSTERS=41 EPOCHS_udml_ss=75 EPOCHS_stml=3 EPOCHS_cluster_contrast=40 ;;
        demo) DATA=$ROOT/data/demo NUM_CLUSTERS=40 EPOCHS_udml_ss=32 EPOCHS_stml=5 EPOCHS_cluster_contrast=60 ;;
    esac
    : "${DATA:?where is $1? Set CUB100 or GROCERY}"
    if [ $study = study_held_out ]; then # half of the classes, so half of the steps (not for shared_neighbours)
        "$PYTHON" -m data.held_out "$DATA" "$ROOT/data/$1-held_out"
        DATA=$ROOT/data/$1-held_out NUM_CLUSTERS=$(((NUM_CLUSTERS + 1) / 2))
    fi
    EPOCHS_supervised=$EPOCHS_udml_ss EPOCHS_shared_neighbours=20 EPOCHS_closed_form=1
}

# Sets each method's own settings. They follow its paper, or were chosen on classes held out from the training lists.
flags_of() {
    case $1 in
        udml_ss | supervised) INIT=pca ;;
        stml) BATCH_SIZE=120 TRAIN_FLAGS="--init pca" ;;
        shared_neighbours) LR=0.0003 ;;
        cluster_contrast) TRAIN_FLAGS="--init pca --eps 0.5 --up_step 5" ;;
    esac
}

# Succeeds if run_train_test.sh passes a setting on to METHOD. UDML-SS and its kin get all settings, others only the common ones.
passes_on() {
    case $METHOD/$1 in
        udml_ss/* | supervised/*) ;;
        */INIT | */NUM_CLUSTERS | */UP_STEP | */LOSS | */ALPHA | */BETA | */NUM_INSTANCES | */ROT*) return 1 ;;
    esac
    grep -q "^$1=" "$scripts/run_train_test.sh"
}

run() { # METHOD[,NAME=VALUE...] SET SEED, in a shell of its own
    local place=$ROOT/$study/$2/$1-seed-$3
    [ ! -e "$place.json" ] || return 0
    if [ "$2" = demo ]; then "$PYTHON" -m data.demo "$ROOT/data/demo"; fi
    settings "$2"
    METHOD=${1%%,*} SEED=$3 RESULT=$place.part RUN_SUFFIX=-study
    flags_of "$METHOD"
    local epochs=EPOCHS_$METHOD change name
    EPOCHS=${!epochs}
    IFS=, read -ra changes <<<"$1"
    for change in "${changes[@]:1}"; do
        RUN_SUFFIX+=-$change
        if passes_on "${change%%=*}"; then
            declare -gx "$change"
        else
            name=${change%%=*}
            TRAIN_FLAGS="${TRAIN_FLAGS:-} --${name,,} ${change#*=}" # train.py refuses unknown flags
        fi
    done
    SAVE_STEP=${SAVE_STEP:-$(((EPOCHS + 1) / 2))} # two points for its curve
    if [ "$METHOD" != closed_form ]; then TEST_FLAGS+=" --pretrained False"; fi # the frozen net is tested once
    export DATA NUM_CLUSTERS INIT BATCH_SIZE TRAIN_FLAGS METHOD SEED RESULT RUN_SUFFIX EPOCHS SAVE_STEP TEST_FLAGS LOSS
    mkdir -p "$ROOT/$study/$2"
    "$scripts/run_train_test.sh"
    mv "$RESULT" "$place.json"
}

judge() { # SET: judge its nets that have no scores without labels yet
    settings "$1"
    local folder=$ROOT/$study/$1 due nets
    local file=$folder/label_free.json
    mkdir -p "$folder"
    touch "$file.begun" # nets saved from now on are judged next time
    due=$("$PYTHON" scripts/study.py due "$folder")
    if [ -z "$due" ]; then return; fi
    readarray -t nets <<<"$due"
    "$PYTHON" test.py --data "$DATA" --net "$NET" --device cpu --select --pretrained True --readout embedding closed_form \
        --metrics recall --report no --resume "${nets[@]}" --save_json "$file.part" --log_file "scripts/out/$study-$1.log"
    "$PYTHON" scripts/study.py add "$file.part" "$folder"
    touch -r "$file.begun" "$file"
}

[ $# -gt 0 ] || set -- 0 1 2
for set in ${SETS:-${CUB100:+CUB100} ${GROCERY:+GroceryStore} demo}; do
    for seed in "$@"; do
        for method in ${METHODS:-closed_form udml_ss stml cluster_contrast shared_neighbours supervised}; do
            if [ "$method" != closed_form ] || [ "$seed" = 0 ]; then # no seed decides it
                (run "$method" "$set" "$seed")
            fi
        done
    done
    if [ "${JUDGE:-1}" != 0 ]; then (judge "$set"); fi
done
"$PYTHON" scripts/study.py "$ROOT/$study" "scripts/out/$study"
