#!/usr/bin/env bash
# Creates .venv and installs the project into it. Called by `make setup`; running it again is harmless.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Pixel Pipeline needs Python 3.11 or newer; $python is $("$python" --version 2>&1)." >&2
    echo "Install a newer one and run: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if [ ! -x .venv/bin/python ]; then
    echo "==> creating .venv"
    "$python" -m venv .venv
fi
# The pip of older Python versions takes many minutes to resolve the dependencies; a current one takes 30 seconds.
echo "==> installing Pixel Pipeline and its tools into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'

hook='. "$VIRTUAL_ENV/../scripts/environment.sh"'
if ! grep -qF "$hook" .venv/bin/activate; then
    printf '\n# Pixel Pipeline: variables that `dagster` needs to find the project.\n%s\n' "$hook" >> .venv/bin/activate
fi
touch .venv/.installed
echo "==> ready; activate the environment with: . .venv/bin/activate"
