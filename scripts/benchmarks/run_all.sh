#!/usr/bin/env bash
# Runs the benchmarks at full size, one after the other, and writes results.md. Takes about two hours on two cores. products.py
# is not among them: it draws 120,053 images.
#   IMAGES=path/to/CUB100 scripts/benchmarks/run_all.sh      # IMAGES: a data set folder; made-up images without it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON="${PYTHON:-../../.venv/bin/python}"

{
    echo "# Benchmarks"
    echo
    echo "Written by \`scripts/benchmarks/run_all.sh\` on $(date +%F), commit $(git describe --always --dirty=+); what it"
    echo "means at larger sizes is in [README.md](README.md)."
    echo
    "$PYTHON" loss.py
    "$PYTHON" recall.py --n 60502 --n_peers 20000 --curve 10000 20000 40000 80000 200000
    "$PYTHON" clustering.py --n 59551 --k 10000 --memory_n 1000000 --curve_n 20000 59551 200000
    "$PYTHON" input.py --entries 1000000 ${IMAGES:+--images "$IMAGES"}
    "$PYTHON" closed_form.py
    "$PYTHON" export.py --threads 1
    "$PYTHON" curves.py
    "$PYTHON" memory.py
    "$PYTHON" activations.py
    if [ -n "${IMAGES:-}" ]; then
        "$PYTHON" embedding.py --images "$IMAGES"
        "$PYTHON" query.py --images "$IMAGES"
        "$PYTHON" planted_copies.py --images "$IMAGES"
    fi
    "$PYTHON" searching.py
    "$PYTHON" page.py
    "$PYTHON" duplicates.py
    "$PYTHON" grouping.py
    "$PYTHON" neighbours.py --exact
    "$PYTHON" look.py --n 1000000 --searched 20480
    "$PYTHON" step.py --full --compile ResNet18 EfficientNet-Lite0
} > results.md.tmp
mv results.md.tmp results.md
