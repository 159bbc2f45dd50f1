# The other scripts source this one: it goes to the project's folder and sets $PYTHON to an interpreter with all packages.
#   With PYTHON=..., nothing is installed. Otherwise the packages of requirements.txt are installed, once, into the active
#   virtual environment or into .venv, which is made here. EXTRA_REQUIREMENTS: one more file of packages.
#   TORCH=cpu takes PyTorch's build without CUDA. An installed torch that fits is used as it is.
CPU_BUILDS=https://download.pytorch.org/whl/cpu

case ${PYTHON:-} in /* | '') ;; */*) PYTHON=$PWD/$PYTHON ;; esac  # a relative path counts from the user's folder
CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() { echo "error: $*" >&2; exit 2; }

# The last error in pip's log, without its colours.
why_pip_failed() { grep -i error "$install_log" | tail -n 1 | tr -d '\033' | sed 's/\[[0-9;]*m//g; s/^ERROR: //'; }

# With TORCH=cpu, installs PyTorch's CPU build. Otherwise, or if that fails, says how large the ordinary build is, which is
# installed later: for Linux it brings CUDA along, whether there is a GPU or not.
install_cpu_torch_or_warn() {
    local gpu=yes
    [ -e /proc/driver/nvidia ] || command -v nvidia-smi >/dev/null || gpu=no
    if [ "${TORCH:-}" = cpu ]; then
        echo "installing PyTorch for the CPU, about 1 GB"
        # pip's own settings could lead to the ordinary build
        PIP_CONFIG_FILE=/dev/null "$PYTHON" -m pip install --disable-pip-version-check --timeout 5 --retries 0 \
            --index-url "$CPU_BUILDS" $(grep -E '^torch(vision)?==' requirements.txt) >> "$install_log" 2>&1 && return
        echo "PyTorch's CPU build could not be installed from $CPU_BUILDS ($(why_pip_failed)); the ordinary build is taken"
    fi
    echo "PyTorch is about 6 GB, most of it CUDA libraries; this takes a few minutes, once"
    if [ "$(uname -s)" = Linux ] && [ $gpu = no ] && [ -z "${TORCH:-}" ]; then
        echo "without an NVIDIA GPU: stop this, and put TORCH=cpu in front of the same command: about 1 GB"
    fi
}

if [ -z "${PYTHON:-}" ]; then
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        environment=$VIRTUAL_ENV
    else
        environment=$PWD/.venv
        if [ ! -e "$environment" ]; then
            command -v python3 >/dev/null || fail "python3 not found; install Python 3.10 or newer"
            python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                fail "$(python3 --version) is too old; make a virtual environment with Python 3.10 or newer and activate it"
            echo "making the virtual environment .venv"
            python3 -m venv "$environment" || {
                rm -rf "$environment"
                fail "python3 -m venv failed; on Debian or Ubuntu: apt install python3-venv"
            }
        fi
    fi
    PYTHON=$environment/bin/python
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null 2>&1 ||
        fail "$environment has no pip; remove that folder, or activate another environment"
    install_log=$environment/install.log
    for requirements in requirements.txt ${EXTRA_REQUIREMENTS:-}; do
        # The stamp's name is a checksum of the file, so its packages are installed once, and again only after the file changes.
        stamp=$environment/.installed-$(cksum < "$requirements" | tr ' ' '-')
        [ ! -e "$stamp" ] || continue
        if [ "$requirements" = requirements.txt ] && ! "$PYTHON" -c 'import torch' >/dev/null 2>&1; then install_cpu_torch_or_warn; fi
        echo "installing $requirements; pip's words go to $install_log"
        "$PYTHON" -m pip install --disable-pip-version-check -r "$requirements" >> "$install_log" 2>&1 ||
            fail "pip could not install $requirements: $(why_pip_failed); run the same command again, or see $install_log"
        touch "$stamp"
    done
fi
"$PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
    torch torchvision faiss sklearn timm pytorch_metric_learning starlette uvicorn jinja2 ||
    fail "$PYTHON lacks packages of requirements.txt; run: $PYTHON -m pip install -r requirements.txt"
export PYTHON
