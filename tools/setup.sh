#!/bin/sh
# Make .venv hold what the locks say: sh tools/setup.sh base|dev|lab
#
# Quick when nothing changed: .venv/.setup records which locks were installed, their checksum and the folder.
# Installing only adds packages and moves them to their pins: `make demo` after `make test` removes nothing,
# nor does it remove what you put into .venv yourself. Two at once: the second waits for the first.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/.setup
level=${1:-}
if [ ! -f "requirements/$level.lock" ]; then
    echo "set-up: there is no requirements/$level.lock. Usage: sh tools/setup.sh base|dev|lab" >&2
    exit 2
fi

recorded() { sed -n "s/^$1=//p" "$stamp" 2>/dev/null || true; }

extra_levels() { # what lies on top of base: what was installed before, and what is asked for now
    before=$(recorded levels)
    case " base $before " in
    *" $level "*) echo "$before" ;;
    *) echo "${before:+$before }$level" ;;
    esac
}

lock_files() {
    echo requirements/build.lock requirements/base.lock
    for extra in $(extra_levels); do echo "requirements/$extra.lock"; done
}

checksum() { # cksum is the one that every system has
    { sha256sum "$@" 2>/dev/null || shasum -a 256 "$@" 2>/dev/null || cksum "$@"; } | tr -s ' \n' '_'
}

state() { # what the stamp says when all is as it should be
    echo "levels=$(extra_levels)"
    # shellcheck disable=SC2046  # a list of names without spaces
    echo "locks=$(checksum $(lock_files))"
    echo "project=$(checksum pyproject.toml)"
    echo "folder=$(pwd -P)"
}

version_of() { "$1" -c 'import sys; print(sys.implementation.name, *sys.version_info[:2])' 2>/dev/null; }

python_as_asked() { [ -z "${PYTHON:-}" ] || [ "$(version_of .venv/bin/python)" = "$(version_of "$PYTHON")" ]; }

up_to_date() {
    [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(state)" = "$(cat "$stamp")" ] && python_as_asked
}

take_lock() {
    waiting="set-up: another make is setting this checkout up; waiting for it"
    if command -v flock >/dev/null 2>&1; then
        exec 9>.setup.lock
        flock -n 9 || { echo "$waiting" >&2; flock 9; }
        return
    fi
    until mkdir .setup.lock.d 2>/dev/null; do
        owner=$(cat .setup.lock.d/pid 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf .setup.lock.d # its owner was killed
            continue
        fi
        [ -z "$waiting" ] || echo "$waiting" >&2
        waiting=
        sleep 1
    done
    echo $$ >.setup.lock.d/pid
    trap 'rm -rf .setup.lock.d' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- '>=3.11,<3.14' '>=3.14'; fi
    for wanted in "$@"; do # the versions that the project is tried with come first
        found=$(sh tools/uv.sh python find --no-project --system "$wanted" 2>/dev/null) || continue
        "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo "$found" && return
    done
    {
        echo "set-up: Python 3.11 or newer is needed; ${PYTHON:-python3} is" \
            "$("${PYTHON:-python3}" --version 2>&1 | sed -n 1p)."
        echo "Install a newer one, or name one that is installed: make setup PYTHON=/path/to/python3.12"
    } >&2
    exit 1
}

venv_usable() {
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || return 1
    python_as_asked || return 1
    made_in=$(recorded folder)
    [ -z "$made_in" ] || [ "$made_in" = "$(pwd -P)" ] # its scripts name the folder they were made in
}

make_venv() {
    sh tools/uv.sh --version >/dev/null # says by itself what is wrong
    python=$(find_python)
    echo "set-up: making .venv with $python" >&2
    rm -rf .venv
    sh tools/uv.sh venv --quiet --no-project --python "$python" .venv
}

install_locks() { # install_locks "EXTRA EXTRA"
    echo "set-up: installing the pinned packages: base${1:+ $1} (the first time: minutes, gigabytes)" >&2
    names="build base $1"
    set --
    for name in $names; do set -- "$@" -r "requirements/$name.lock"; done
    sh tools/uv.sh pip install --python .venv/bin/python --no-deps --require-hashes "$@"
}

install_project() {
    sh tools/uv.sh pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --offline \
        --reinstall-package guardianflow --editable .
    # Python up to 3.12 reads .pth files in the locale's encoding: under LC_ALL=C an absolute path with Korean
    # letters would stop every start of it. The same place, seen from site-packages, is plain ASCII.
    for pth in .venv/lib/python3*/site-packages/_guardianflow.pth; do echo ../../../.. >"$pth"; done
}

compile_all() { # or every process compiles what it imports, where PYTHONDONTWRITEBYTECODE is set: 5 s a start
    .venv/bin/python -m compileall -q -j 0 .venv/lib/python3*/site-packages guardianflow >/dev/null 2>&1 || true
}

install() {
    after=$(state)
    extras=$(extra_levels)
    before=$(recorded locks)
    rm -f "$stamp" # an interrupted set-up leaves none
    case "$after" in
    *"
locks=$before
"*) ;; # only pyproject.toml changed
    *) install_locks "$extras" ;;
    esac
    install_project
    compile_all # a package may hold a file for another Python: that is no failure
    printf '%s\n' "$after" >"$stamp.new"
    mv "$stamp.new" "$stamp"
}

up_to_date && exit 0
take_lock
up_to_date && exit 0 # whoever held the lock did it
venv_usable || make_venv
install
echo "set-up: done" >&2
