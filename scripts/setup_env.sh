# Sourced by the other scripts: goes to the project's folder and sets $PYTHON to an interpreter that has everything.
#   PYTHON=... is used as it is. An active virtual environment is used, else .venv is made here; what requirements.txt
#   names is installed into it when that has not been done yet. EXTRA_REQUIREMENTS: one more such file.

case ${PYTHON:-} in /* | '') ;; */*) PYTHON=$PWD/$PYTHON ;; esac  # a relative path is from where the user stands
CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() { echo "error: $*" >&2; exit 2; }

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
    for requirements in requirements.txt ${EXTRA_REQUIREMENTS:-}; do
        # A stamp named by the file's content: done once, and again only when the file changes.
        stamp=$environment/.installed-$(cksum < "$requirements" | tr ' ' '-')
        if [ ! -e "$stamp" ]; then
            echo "installing $requirements (a few minutes the first time)"
            "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
                fail "pip could not install $requirements; see its message above"
            touch "$stamp"
        fi
    done
fi
"$PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
    torch torchvision faiss sklearn timm pytorch_metric_learning starlette uvicorn jinja2 ||
    fail "$PYTHON lacks packages of requirements.txt; run: $PYTHON -m pip install -r requirements.txt"
export PYTHON
