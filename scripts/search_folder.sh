#!/usr/bin/env bash
# Searches folders of images for look-alikes: sets itself up, embeds the images, opens a page on this machine.
#
#   scripts/search_folder.sh ~/photos              takes a minute or two, with a ready-made net fitted to the folder
#   scripts/search_folder.sh ~/photos /mnt/nas     the same for several folders together
#   TRAIN=1 scripts/search_folder.sh ~/photos      the same; then trains on the folder (100 images or more), and shows both nets if
#                                                  training helped; TRAIN=again trains anew, on the present images
#   SERVE=0 scripts/search_folder.sh ~/photos      embeds new images, without a page
#
# A second call embeds new and changed images, and forgets missing ones. After a Ctrl-C, the same command goes on. Photos that
# have moved are found again. Nothing is written into the folders. Every value below can be set from the environment.
set -euo pipefail

usage="give a folder of images: scripts/search_folder.sh ~/photos"
case ${1:-} in '') echo "error: $usage" >&2; exit 2 ;; -h | --help) echo "$usage"; sed -n '2,11s/^# \{0,1\}//p' "$0"; exit ;; esac
FOLDERS=()
for folder in "$@"; do
    [ -d "$folder" ] || { echo "error: $folder: no such folder; $usage" >&2; exit 2; }
    case $folder in -) folder=./- ;; esac # `cd -` goes elsewhere
    here=$(CDPATH= cd -- "$folder" && pwd && echo .) # $(...) drops line breaks at the end, which a name may have
    FOLDERS+=("${here%$'\n'.}")
done

ROOT=${ROOT:-results}                   # the folder for embeddings and checkpoints; never the folder of images
NET=${NET:-EfficientNet-Lite0}          # backbone; its ImageNet weights come with requirements.txt
WIDTH=${WIDTH:-128}                     # side of the crops; 224 sees finer details and takes three times as long
ORIGIN_WIDTH=${ORIGIN_WIDTH:-$((WIDTH * 9 / 8))}    # shorter side of an image before cropping
DIM=${DIM:-512}                         # numbers in an embedding
DTYPE=${DTYPE:-float32}                 # float16 halves the files
DEVICE=${DEVICE:-auto}                  # cpu, cuda, cuda:1, mps, or auto, which takes the best available
NPROC=${NPROC:-1}                       # processes that embed and train together
SERVE=${SERVE:-1}                       # 0: no page
PORT=${PORT:-8420}                      # port of the page; if taken, the next free one
EMBED_FLAGS=${EMBED_FLAGS:-}            # anything else for embed.py
SERVE_FLAGS=${SERVE_FLAGS---open}      # anything else for search.py serve

TRAIN=${TRAIN:-0}                       # 1: train on the folder, once; again: train anew, on the present images
STEPS=${STEPS:-200}                     # steps of training, by shared neighbours; about 1 s each on a CPU core
LR=${LR:-0.0003}                        # learning rate
SELECT=${SELECT:-1}                     # 0: take the trained net, whatever the scores without labels say
TRAIN_FLAGS=${TRAIN_FLAGS:-}            # anything else for train.py

case $ROOT in /*) ;; *) ROOT=$PWD/$ROOT ;; esac
for folder in "${FOLDERS[@]}"; do
    case $ROOT/ in "$folder"/*) echo "error: $ROOT lies in the folder of the images; set ROOT to another place" >&2; exit 2 ;; esac
done
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
# Each choice of settings has its own folder, so that none replaces another.
number=$(printf '%s ' "${FOLDERS[@]}" "$NET" "$WIDTH" "$ORIGIN_WIDTH" "$DIM" "$DTYPE" | cksum | cut -d ' ' -f 1)
out=$ROOT/search/$(basename "${FOLDERS[0]}")-$number
if [ ! -e "$out" ]; then # the photos of another gallery with these settings, whose folders are gone?
    for settings in "$ROOT"/search/*/settings; do
        if [ -e "$settings" ] && [ "$(cat "$settings")" = "$NET $WIDTH $ORIGIN_WIDTH $DIM $DTYPE" ] &&
            "$PYTHON" -m gallery.moved "$(dirname "$settings")" "${FOLDERS[@]}"; then
            mv "$(dirname "$settings")" "$out"
            break
        fi
    done
fi
mkdir -p "$out"
echo "$NET $WIDTH $ORIGIN_WIDTH $DIM $DTYPE" > "$out/settings"

launch=("$PYTHON")
if [ "$NPROC" != 1 ]; then launch+=(-m torch.distributed.run --standalone --nproc_per_node "$NPROC"); fi
page=
trap 'if [ -n "$page" ]; then kill "$page" 2>/dev/null || :; fi' EXIT

say_how_to_search() { # for the last gallery
    local last=${galleries[${#galleries[@]} - 1]}
    printf 'From the shell, in a second terminal: %q %q query %q photo.jpg\n' "$PYTHON" "$PWD/search.py" "$last"
}

embed() { # embed GALLERY [FLAGS]
    "${launch[@]}" embed.py --images "${FOLDERS[@]}" --out "$out/$1" --dtype "$DTYPE" --device "$DEVICE" --log_file "$out/log" \
        "${@:2}" $EMBED_FLAGS
}

serve() { # shows the galleries, also those that embed.py is still at
    served=${galleries[*]}
    "$PYTHON" search.py serve "${galleries[@]}" --wait --port "$PORT" $SERVE_FLAGS &
    page=$!
}

galleries=("$out/ready-made")
if [ -e "$out/trained/about.json" ]; then galleries+=("$out/trained"); fi
if [ "$SERVE" != 0 ]; then serve; fi
ready=(--net "$NET" --width "$WIDTH" --origin_width "$ORIGIN_WIDTH" --dim "$DIM")
embed ready-made "${ready[@]}"

galleries=("$out/ready-made")
if [ "$TRAIN" != 0 ]; then
    # A training keeps its list of images, so that it can go on after a stop. The earlier training stays until this one is done.
    run=$out/training
    if [ "$TRAIN" = again ]; then run=$out/training.new; fi
    images=$("$PYTHON" - "$out/ready-made" "$run" <<'LIST'
import os, sys
from gallery.store import Gallery
gallery, folder = Gallery(sys.argv[1]), sys.argv[2]
train_list = os.path.join(folder, "train.txt")
if not os.path.exists(train_list):
    os.makedirs(folder, exist_ok=True)
    with open(train_list + ".tmp", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{path}\n" for path in gallery.paths if "\n" not in path)
    os.replace(train_list + ".tmp", train_list)
print(sum(1 for _ in open(train_list, "rb")))
LIST
)
    epochs=$(((STEPS + 9) / 10))
    if [ "$images" -lt 100 ]; then
        echo "$images images are too few to train on: 100 are needed"
        rm -rf "$run"
    elif [ ! -e "$run/shared_neighbours/ckp_ep$epochs.pth.tar" ]; then
        if [ "$SERVE" != 0 ]; then
            echo "The page can be used while the net is trained."
            say_how_to_search
        fi
        "${launch[@]}" train.py --data "$run" --save_dir "$run/shared_neighbours" --net "$NET" --dim "$DIM" --width "$WIDTH" \
            --origin_width "$ORIGIN_WIDTH" --device "$DEVICE" --method shared_neighbours --epochs "$epochs" \
            --save_step "$epochs" --lr "$LR" --readout auto --on_bad_image skip --log_file "$out/log" $TRAIN_FLAGS
    fi
    if [ "$TRAIN" = again ] && [ -d "$run" ]; then
        rm -rf "$out/training"
        mv "$run" "$out/training"
    fi
fi

galleries=("$out/ready-made")
checkpoint=$(ls -t "$out"/training/*/ckp_ep*.pth.tar 2>/dev/null | head -n 1 || :)
helped=1
if [ -n "$checkpoint" ] && [ "$SELECT" != 0 ]; then # without labels, is it better than the ready-made net?
    judged=$out/training/judgement.json
    if [ ! -e "$judged" ] || [ "$checkpoint" -nt "$judged" ]; then
        rm -f "$judged" "$out/training/select.json" # of an earlier training, or an earlier version
        if "$PYTHON" test.py --data "$out/training" --net "$NET" --pretrained True --resume "$checkpoint" --select \
            --device "$DEVICE" --on_bad_image skip --save_json "$judged.part" --log_file "$out/log"; then
            mv "$judged.part" "$judged"
        fi
    fi
    [ ! -e "$judged" ] || helped=$("$PYTHON" scripts/keep_judgement.py "$judged" "$out/ready-made")
    if [ "$helped" = 0 ]; then echo "Training did not help: the ready-made embeddings stay (SELECT=0 takes the trained ones)"; fi
fi
if [ -n "$checkpoint" ] && [ "$helped" = 1 ]; then
    anew=()
    if [ "$checkpoint" -nt "$out/trained/about.json" ]; then anew=(--again); fi  # the net was trained after it embedded
    embed trained --checkpoint "$checkpoint" ${anew[@]+"${anew[@]}"}
    galleries+=("$out/trained")
    if [ -e "${judged-}" ]; then "$PYTHON" scripts/keep_judgement.py "$judged" "${galleries[@]}" > /dev/null; fi # the page says so
fi
if [ "$SERVE" != 0 ]; then
    say_how_to_search
    if [ "$served" != "${galleries[*]}" ]; then # training made another gallery, or did not help any more
        kill "$page" 2>/dev/null || :
        wait "$page" 2>/dev/null || :
        serve
    fi
    wait "$page"
    page=
    exit
fi
echo "The embeddings are in ${galleries[*]}"
