#!/usr/bin/env bash
# Runs the paper's experiment on CUB. Each row holds arguments of run_train_test.sh; add or uncomment rows for a grid. EPOCHS,
# WIDTH, NET, ... from the environment apply to all rows.
set -euo pipefail

run=$(dirname "${BASH_SOURCE[0]}")/run_train_test.sh
[ -n "${DATA_ROOT:-}" ] || { echo "error: set DATA_ROOT to the folder that holds CUB_200_2011" >&2; exit 2; }

#      rot  data    loss   rot_lr  alpha rot_bt rot_batch lr     dim up_step clusters
"$run" 0.1  cub     Weight 0.00001 40    1      16        0.00001 512 5      100
# "$run" 0.1  cub     Weight 0.000005 40   1      16        0.00001 512 5      100      # from an earlier grid of the original
# "$run" 0.1  car     Weight 0.00001 40    1      16        0.00001 512 5      100
# "$run" 0.1  product Weight 0.00001 40    1      16        0.00001 512 5      10000    # this number of clusters is our choice
