#!/usr/bin/env bash
# Converts the official archives of a data set into <DATA_ROOT>/<folder>/{train.txt,test.txt,train/,test/}.
#   DATA_ROOT=~/data scripts/prepare_data.sh cub                                   # downloads
#   DATA_ROOT=~/data scripts/prepare_data.sh cub --archive ~/CUB_200_2011.tgz      # takes local files
# After an interruption, run the same command again: it goes on where it stopped.
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: [DATA_ROOT=DIR] $0 cub|car|product|shop [--data_root DIR] [--archive FILE ...] [--no_check]" >&2
    exit 2
fi

# setup_env.sh changes the folder, so relative paths are made absolute first.
args=("$1")
for arg in "${@:2}"; do
    case $arg in
        --*=/* | /* | --no_check | --data_root | --archive | -h | --help) ;;
        --*=*) arg=${arg%%=*}=$PWD/${arg#*=} ;;
        *) arg=$PWD/$arg ;;
    esac
    args+=("$arg")
done
case ${DATA_ROOT:-} in /* | '') ;; *) export DATA_ROOT=$PWD/$DATA_ROOT ;; esac

source "$(dirname "$0")/setup_env.sh"
exec "$PYTHON" -m data.prepare "${args[@]}"
