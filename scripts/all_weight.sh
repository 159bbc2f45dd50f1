#!/usr/bin/env bash
# The paper's experiment on CUB, and grids to choose from, as rows of run_train_test.sh's arguments. EPOCHS, WIDTH, NET, ...
# from the environment are for all rows.
set -euo pipefail

run=$(dirname "${BASH_SOURCE[0]}")/run_train_test.sh
[ -n "${DATA_ROOT:-}" ] || { echo "error: set DATA_ROOT to the folder that holds CUB_200_2011" >&2; exit 2; }

#      rot  data    loss   rot_lr  alpha rot_bt rot_batch lr     dim up_step clusters
"$run" 0.1  cub     Weight 0.00001 40    1      16        0.00001 512 5      100
# "$run" 0.1  cub     Weight 0.000005 40   1      16        0.00001 512 5      100      # in an earlier grid of the original
# "$run" 0.1  car     Weight 0.00001 40    1      16        0.00001 512 5      100
# "$run" 0.1  product Weight 0.00001 40    1      16        0.00001 512 5      10000    # so many clusters are our choice
