#!/bin/sh
# Installs the pinned Python packages outside the repository, builds bdr, and runs both parts of the comparison.
#
#   benches/compare/run.sh [--bdr PATH] [--events FILE] [SETTINGS OF compare.py speed ...]
#
# --bdr PATH     this binary instead of a fresh cargo build --release
# --events FILE  events for the second part, NDJSON in the minimal schema, plain or .gz; without it only the first part runs
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bdr-compare
bdr= events=
while [ $# -gt 0 ]; do
    case $1 in
        --bdr) bdr=$2; shift 2 ;;
        --events) events=$2; shift 2 ;;
        *) break ;;
    esac
done

mkdir -p "$cache/work"
python=$cache/venv/bin/python
[ -x "$python" ] || python3 -m venv "$cache/venv"
"$python" -m pip install --quiet --requirement "$here/requirements.txt"
if [ -z "$bdr" ]; then
    cargo build --release --manifest-path "$repository/Cargo.toml"
    bdr=${CARGO_TARGET_DIR:-$repository/target}/release/bdr
fi

export PYTHONDONTWRITEBYTECODE=1
"$python" "$here/compare.py" speed --bdr "$bdr" --json "$cache/speed.json" "$@"
if [ -n "$events" ]; then
    "$python" "$here/compare.py" quality "$events" --bdr "$bdr" --json "$cache/quality.json"
fi
echo
echo "all figures: $cache/*.json"
