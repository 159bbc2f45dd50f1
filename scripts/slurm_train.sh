#!/usr/bin/env bash
# Runs run_train_test.sh as a SLURM job that outlives its time limit: `sbatch scripts/slurm_train.sh [arguments]` in the
# project's folder, with DATA_ROOT and the other values in the environment. Two minutes before the limit the run saves and
# stops, and the job is queued again. SLURM itself requeues preempted jobs and jobs on a failed node.
#SBATCH --job-name=udml
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

NPROC=${NPROC:-${SLURM_GPUS_ON_NODE:-1}} scripts/run_train_test.sh "$@" &
limit=
trap 'limit=near; kill -USR1 $! || :' USR1
trap 'kill -TERM $! || :' TERM
while code=0; wait $! || code=$?; kill -0 $! 2>/dev/null; do :; done
if [ -n "$limit" ] && [ "$code" != 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
