#!/usr/bin/env bash
# Set-up, lint, format and every test.
#
#   bash run_tests.sh                     # all
#   bash run_tests.sh tests/test_x.py     # anything pytest takes
#
# Tests that need the reference data look in the folder MUSIC_SHARED and skip without it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./setup_env.sh
setup_env requirements-dev.txt

echo "== ruff"
ruff check . --no-cache
ruff format --check .
echo "== pytest"
python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
