#!/usr/bin/env bash
# Trains, then tests every checkpoint on the test classes. All settings are listed below. Edit them here, or set any as an
# environment variable.
#
#   scripts/run_train_test.sh                                  the built-in demo: compares the frozen with the trained net
#   DATA_ROOT=~/data scripts/run_train_test.sh                 CUB-200-2011 with the paper's settings
#   DATA=~/photos NET=EfficientNet-Lite0 scripts/run_train_test.sh      a folder of images of your own
#   DATA_ROOT=~/data DATA=car NET=ResNet50 EPOCHS=100 scripts/run_train_test.sh
#   DATA_ROOT=~/data NPROC=4 scripts/run_train_test.sh         trains in four processes, each with its own GPU if there are GPUs
#   scripts/run_train_test.sh ROT DATA LOSS ROT_LR ALPHA ROT_BT ROT_BATCH LR DIM UP_STEP NUM_CLUSTERS ROT_ONLY PRETRAINED NET
#
# The log also goes to scripts/out/<data>-<loss>-<run name>.log.
set -euo pipefail

# The original's positional arguments, in its order. For a missing or empty one, the environment or the default counts.
i=0
for name in ROT DATA LOSS ROT_LR ALPHA ROT_BT ROT_BATCH LR DIM UP_STEP NUM_CLUSTERS ROT_ONLY PRETRAINED NET; do
    i=$((i + 1))
    if [ -n "${!i:-}" ]; then printf -v "$name" '%s' "${!i}"; fi
done

METHOD=${METHOD:-udml_ss}               # training method: udml_ss, shared_neighbours, stml, cluster_contrast, closed_form, ...
case $METHOD in                         # other defaults for other methods
    frozen | closed_form) EPOCHS=${EPOCHS:-1} ;;
    shared_neighbours) EPOCHS=${EPOCHS:-20} LR=${LR:-0.0003} ;;
    cluster_contrast) LR=${LR:-0.0001} ;;
    stml) EPOCHS=${EPOCHS:-90} LR=${LR:-0.0001} BATCH_SIZE=${BATCH_SIZE:-120} ;;
esac

if [ -z "${DATA_ROOT:-}" ] && [ $# -eq 0 ] && [ "${DATA:-demo}" = demo ]; then
    # The demo's settings: small enough for two CPU cores.
    DATA=demo
    DATA_ROOT=${ROOT:-results}/data
    NET=${NET:-EfficientNet-Lite0}
    WIDTH=${WIDTH:-96}
    ORIGIN_WIDTH=${ORIGIN_WIDTH:-110}
    NUM_CLUSTERS=${NUM_CLUSTERS:-60}
    UP_STEP=${UP_STEP:-4}
    EPOCHS=${EPOCHS:-16}
    SAVE_STEP=${SAVE_STEP:-$EPOCHS}
    LR=${LR:-0.0001}
    ROT_LR=${ROT_LR:-0.0001}
    AMP=${AMP:-auto}
fi

ROOT=${ROOT:-results}                   # the folder for checkpoints and results
DATA=${DATA:-cub}                       # cub, car, product, shop, demo, a folder under DATA_ROOT, or a path
NET=${NET:-Inception}                   # backbone: Inception, BN-Inception, ResNet18 ... 152, EfficientNet-Lite0, timm/<name>
PRETRAINED=${PRETRAINED:-True}          # start from ImageNet weights
DIM=${DIM:-512}                         # embedding size
INIT=${INIT:-random}                    # start of the embedding head: random as in the paper, or pca, the features' PCA
WIDTH=${WIDTH:-227}                     # side of the crops
ORIGIN_WIDTH=${ORIGIN_WIDTH:-256}       # shorter side of an image before cropping
RATIO=${RATIO:-0.16}                    # smallest share of the image in a random crop
NUM_CLUSTERS=${NUM_CLUSTERS:-100}       # k of k-means; the paper: 100 for CUB and Cars, 10000 for product
UP_STEP=${UP_STEP:-5}                   # epochs between clusterings
LOSS=${LOSS:-Weight}                    # metric loss; `train.py --help` lists them
ALPHA=${ALPHA:-40}                      # steepness of Weight for negative pairs
BETA=${BETA:-2}                         # steepness of Weight for positive pairs
BATCH_SIZE=${BATCH_SIZE:-80}            # images in a step: P x K
NUM_INSTANCES=${NUM_INSTANCES:-5}       # K: images of each cluster in a step
ROT=${ROT:-0.1}                         # weight of the rotation loss; 0 turns it off
ROT_BATCH=${ROT_BATCH:-16}              # images of a step that also come in four rotations
ROT_BT=${ROT_BT:-1}                     # 1: rotate, then crop each copy; 0: rotate one crop
ROT_ONLY=${ROT_ONLY:-0}                 # 1: no metric loss
LR=${LR:-0.00001}                       # learning rate of backbone and embedding
ROT_LR=${ROT_LR:-0.00001}               # learning rate of the rotation head
FREEZE_BN=${FREEZE_BN:-True}            # keep BatchNorm statistics fixed
EPOCHS=${EPOCHS:-600}                   # number of epochs; in udml_ss one visits each cluster at most once
SAVE_STEP=${SAVE_STEP:-50}              # epochs between checkpoints
SEED=${SEED:-0}                         # seed of all random draws
READOUT=${READOUT:-closed_form}         # closed_form is fitted after training and tested beside the embedding; embedding; auto
POOL_FEATURE=${POOL_FEATURE:-False}     # test the pooled features instead of the embedding
ON_BAD_IMAGE=${ON_BAD_IMAGE:-stop}      # skip: leave out unreadable images, and count them
WEIGHTS=${WEIGHTS:-}                    # a file of backbone weights, in place of the net's own source
DEVICE=${DEVICE:-auto}                  # cpu, cuda, cuda:1, mps, or auto, which takes the best available
AMP=${AMP:-off}                         # precision: off as in the paper; auto is faster on a GPU
NPROC=${NPROC:-1}                       # processes that train together; more machines: see docs/running.md
DRY_RUN=${DRY_RUN:-0}                   # 1: try everything, say how long the run will take, and keep nothing
RUN_SUFFIX=${RUN_SUFFIX:-}              # end of the run's name, to tell runs apart that have the same name otherwise
TRAIN_FLAGS=${TRAIN_FLAGS:-}            # anything else for train.py, e.g. "--eval_step 10"
TEST_FLAGS=${TEST_FLAGS:-}              # anything else for test.py
RESULT=${RESULT:-}                      # the file of results (default: under ROOT, named after the run)
SAVE_DIR=${SAVE_DIR:-}                  # the folder of checkpoints (default: under ROOT, named after the run)

# Relative paths count from the user's folder, not from the project's.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
ROOT=$(absolute "$ROOT")
if [ -n "${DATA_ROOT:-}" ]; then DATA_ROOT=$(absolute "$DATA_ROOT"); fi
if [ -n "$WEIGHTS" ]; then WEIGHTS=$(absolute "$WEIGHTS"); fi
if [ -n "$RESULT" ]; then RESULT=$(absolute "$RESULT"); fi
if [ -n "$SAVE_DIR" ]; then SAVE_DIR=$(absolute "$SAVE_DIR"); fi
case $DATA in */*) DATA=$(absolute "$DATA") ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

case $ROT_ONLY in 1 | True | true) METHOD=rotation ;; esac  # the original's switch for rotation alone
name=$(basename "$NET")-DIM-$DIM-lr-$LR-ratio-$RATIO-BatchSize-$BATCH_SIZE-rot_lr-$ROT_LR-self_supervision_rot-$ROT
name+=-rot_bt-$ROT_BT-rot_batch-$ROT_BATCH-up_step-$UP_STEP-num_clusters-$NUM_CLUSTERS-ALPHA-$ALPHA-BETA-$BETA
if [ "$METHOD" != udml_ss ]; then name+=-$METHOD; fi
if [ "$SEED" != 0 ]; then name+=-seed-$SEED; fi
name+=$RUN_SUFFIX
data_name=$(basename "$DATA")
save_dir=${SAVE_DIR:-$ROOT/ckpt/$LOSS/$data_name/$name}
result=${RESULT:-$ROOT/result/$LOSS/$data_name/$name.json}
log=scripts/out/$data_name-$LOSS-$name.log
mkdir -p scripts/out

if [ "$DATA" = demo ]; then "$PYTHON" -m data.demo "${DATA_ROOT:=$ROOT/data}/demo"; fi

common=(--data "$DATA" --net "$NET" --dim "$DIM" --width "$WIDTH" --origin_width "$ORIGIN_WIDTH"
        --pool_feature "$POOL_FEATURE" --seed "$SEED" --log_file "$log" --on_bad_image "$ON_BAD_IMAGE" --device "$DEVICE"
        --amp "$AMP")
if [ -n "${DATA_ROOT:-}" ]; then common+=(--data_root "$DATA_ROOT"); fi
if [ -n "$WEIGHTS" ]; then common+=(--weights "$WEIGHTS"); fi
case $METHOD in  # the flags of each method
    udml_ss | supervised | rotation)
        method=(--init "$INIT" --num_clusters "$NUM_CLUSTERS" --up_step "$UP_STEP" --loss "$LOSS" --alpha "$ALPHA"
                --beta "$BETA" --num_instances "$NUM_INSTANCES" --self_supervision_rot "$ROT" --rot_batch "$ROT_BATCH"
                --rot_bt "$ROT_BT" --rot_lr "$ROT_LR") ;;
    *) method=() ;;  # other methods take their defaults, or TRAIN_FLAGS
esac
if [ "$METHOD" != udml_ss ]; then method+=(--method "$METHOD"); fi

launch=("$PYTHON")
if [ "$NPROC" != 1 ] || [ -n "${TORCHRUN_FLAGS:-}" ]; then
    launch+=(-m torch.distributed.run --nproc_per_node "$NPROC" ${TORCHRUN_FLAGS:---standalone})
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(getconf _NPROCESSORS_ONLN) + NPROC - 1) / NPROC))}
fi

# Runs a command and passes signals on to it. Training then saves; this script waits, and ends with the command's exit code.
stoppable() {
    local code stopped=
    set -m  # without it the command would ignore Ctrl-C
    "$@" &
    set +m
    trap "stopped=143; kill -TERM $! 2>/dev/null || :" TERM USR1
    trap "stopped=130; kill -INT $! 2>/dev/null || :" INT
    trap "stopped=129; kill -HUP $! 2>/dev/null || :" HUP
    while code=0; wait $! || code=$?; kill -0 $! 2>/dev/null; do :; done
    trap - TERM USR1 INT HUP
    if [ "$code" != 0 ] || [ -n "$stopped" ]; then exit "${stopped:-$code}"; fi
}

reason=$("$PYTHON" -c 'import sys; from data.dataset import locate, why_no_test
print(why_no_test(locate(*sys.argv[1:])) or "")' "$DATA" "${DATA_ROOT:-}" 2>/dev/null) || reason=  # train.py says what is wrong
if [ -n "$reason" ]; then echo "There will be nothing to test on: $reason"; fi
if [ "$DRY_RUN" = 1 ]; then TRAIN_FLAGS+=" --dry_run"; fi
echo "Training; the log is $log"
stoppable "${launch[@]}" train.py "${common[@]}" ${method[@]+"${method[@]}"} --resume yes --save_dir "$save_dir" \
    --pretrained "$PRETRAINED" --freeze_BN "$FREEZE_BN" --ratio "$RATIO" --batch_size "$BATCH_SIZE" \
    --readout "$READOUT" --lr "$LR" --epochs "$EPOCHS" --save_step "$SAVE_STEP" $TRAIN_FLAGS

if [ "$DRY_RUN" = 1 ]; then exit; fi
if [ -n "$reason" ]; then
    echo "Nothing to test on: $reason; the checkpoints are in $save_dir"
    images=${IMAGES:-$DATA} # study.sh trains on a list in another folder
    [ -d "$images" ] || images=${DATA_ROOT:-.}/$DATA
    [ -d "$images" ] || images=FOLDER
    printf 'To search with the trained net: %q %q --images %q --out %q --checkpoint %q\n' "$PYTHON" "$PWD/embed.py" \
        "$images" "$ROOT/trained-$data_name" "$save_dir/ckp_ep$EPOCHS.pth.tar"
    exit
fi
echo "Testing"
read_out=(embedding)
if [ "$READOUT" != embedding ]; then read_out+=(closed_form); fi
stoppable "$PYTHON" test.py "${common[@]}" --readout "${read_out[@]}" --pretrained "$PRETRAINED" \
    --resume "$save_dir" --save_json "$result" $TEST_FLAGS
