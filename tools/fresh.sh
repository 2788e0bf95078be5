#!/bin/sh
# The start on a new machine, tried here: sh tools/fresh.sh [--shared-cache]
#
# A clone of what is committed, in a temporary folder, with an empty HOME and nothing of this environment but PATH and
# what leads to the package registry. Everything is downloaded again (gigabytes) into a cache that is removed at the
# end; with --shared-cache the packages come from uv's cache of whoever calls.
set -eu
cd "$(dirname "$0")/.."

case "${1:-}" in
"") cache= ;;
--shared-cache) cache=$(sh tools/uv.sh cache dir) ;;
*)
    echo "usage: sh tools/fresh.sh [--shared-cache]" >&2
    exit 2
    ;;
esac

place=$(mktemp -d "${TMPDIR:-/tmp}/guardianflow fresh.XXXXXX")
trap 'rm -rf "$place"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$place/home" "$place/tmp"
echo '<fontconfig/>' >"$place/fonts.conf" # no font of this machine
git clone --quiet . "$place/checkout"
cd "$place/checkout"
echo "fresh: $(git log -1 --format='%h %s'), in $place${cache:+, with the packages of $cache}" >&2

set -- "PATH=$PATH" "HOME=$place/home" "TMPDIR=$place/tmp" "FONTCONFIG_FILE=$place/fonts.conf" "LC_ALL=C.UTF-8"
[ -z "$cache" ] || set -- "$@" "UV_CACHE_DIR=$cache"
for name in PYTHON PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST PIP_CERT PIP_DEFAULT_TIMEOUT \
    UV_INDEX_URL UV_DEFAULT_INDEX UV_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INSECURE_HOST UV_HTTP_TIMEOUT \
    UV_NATIVE_TLS SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE ALL_PROXY HTTP_PROXY HTTPS_PROXY \
    NO_PROXY all_proxy http_proxy https_proxy no_proxy GUARDIANFLOW_SKIPS; do
    eval "value=\${$name-}"
    # shellcheck disable=SC2154  # eval sets it
    [ -z "$value" ] || set -- "$@" "$name=$value"
done

bare() { env -i "$@"; }

bare "$@" make --no-print-directory setup
bare "$@" .venv/bin/guardianflow doctor
bare "$@" .venv/bin/pytest tests/test_setup.py tests/test_locks.py tests/plots/test_font.py tests/vision/test_clip.py \
    tests/services/test_postgres.py
