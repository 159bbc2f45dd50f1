#!/usr/bin/env bash
# The paper's experiments, one after the other: loops over what the paper varies. Edit the lists, or set EPOCHS,
# WIDTH, NET, ... for all of them (see run_train_test.sh).
set -euo pipefail

run=$(dirname "${BASH_SOURCE[0]}")/run_train_test.sh
[ -n "${DATA_ROOT:-}" ] || { echo "error: set DATA_ROOT to the folder that holds CUB_200_2011" >&2; exit 2; }

# all DATA_SETS CLUSTERS
all() {
    for dim in 512; do
        for data in $1; do
            for rot in 0.1; do
                for rot_batch in 16; do
                    for rot_lr in 0.000005 0.00001; do
                        for num_clusters in $2; do
                            #        rot    data    loss   rot_lr   alpha rot_bt rot_batch    lr    dim  up_step clusters
                            "$run" "$rot" "$data" Weight "$rot_lr" 40 1 "$rot_batch" 0.00001 "$dim" 5 "$num_clusters"
                        done
                    done
                done
            done
        done
    done
}

all "cub" "100"
# all "car" "100"
# all "product" "10000"
