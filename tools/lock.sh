#!/bin/sh
# Renew requirements/*.lock from pyproject.toml; options go to `uv pip compile` (--upgrade: newest of everything).
# The locks hold names, versions and hashes, and no download host: they serve behind any mirror.
set -eu
cd "$(dirname "$0")/.."

lock() { # lock NAME OPTIONS…
    name=$1
    shift
    sh tools/uv.sh pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "make lock" --output-file "requirements/$name.lock" "$@"
    echo "requirements/$name.lock: $(grep -c '^[a-z0-9].*==' "requirements/$name.lock") packages"
}

lock base pyproject.toml --extra onnx --extra openvino "$@"
lock dev pyproject.toml --extra dev -c requirements/base.lock "$@"
lock lab pyproject.toml --extra onnx --extra openvino --extra lab --extra dashboard -c requirements/dev.lock "$@"
lock stack pyproject.toml --extra stack -c requirements/dev.lock "$@"
lock build --group build -c requirements/dev.lock "$@"
lock bootstrap --group bootstrap "$@"
