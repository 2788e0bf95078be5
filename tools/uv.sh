#!/bin/sh
# Run uv: the one on PATH if it is recent enough, else a pinned one brought through pip into .uv/ (once).
# Called from the root of the checkout, with relative paths only: its own path may hold spaces.
set -eu

# Never fetch a Python behind the user's back: an installed one is used, or a sentence says which is missing.
UV_PYTHON_DOWNLOADS=never
UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
export UV_PYTHON_DOWNLOADS UV_HTTP_TIMEOUT

recent_enough() { # 0.8 understands every option used here
    case "$("$1" --version 2>/dev/null || true)" in
    "uv 0."[0-7].* | "") return 1 ;;
    "uv "*) return 0 ;;
    *) return 1 ;;
    esac
}

pinned="--quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/bootstrap.lock"

bring_uv() {
    python=$(command -v "${PYTHON:-python3}" || command -v python3 || command -v python || true)
    if [ -z "$python" ]; then
        echo "set-up: Python 3.11 or newer is needed and no python3 is on PATH. Install it, then call make again." >&2
        exit 1
    fi
    echo "set-up: fetching uv through pip into .uv/ (once)" >&2
    rm -rf .uv
    # shellcheck disable=SC2086  # the options are split on purpose
    if "$python" -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install $pinned; then
        return
    fi
    # Debian splits venv from Python. With --target pip may work where the system's own packages are protected.
    rm -rf .uv
    # shellcheck disable=SC2086
    if "$python" -m pip --version >/dev/null 2>&1 && "$python" -m pip install --target .uv $pinned; then
        return
    fi
    rm -rf .uv
    cat >&2 <<MESSAGE
set-up: uv could not be fetched with $python (the lines above say why). Do one of these, then call make again:
  - install the venv module (Debian, Ubuntu: apt-get install python3-venv)
  - install uv yourself (pipx install uv) so that it is on PATH
  - check the network: the first set-up needs it, later calls don't
MESSAGE
    exit 1
}

if recent_enough uv; then
    exec uv "$@"
fi
recent_enough .uv/bin/uv || bring_uv
exec .uv/bin/uv "$@"
