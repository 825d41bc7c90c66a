#!/bin/sh
# The Autobahn test suite's fuzzing client against echo servers: run.sh [--full] PATH_OF_AN_ECHO_SERVER...
#
# Builds nothing. Each server is started on a port of its own (its first line says `listening on ws://...`) and asked
# every case of the classes 1 to 7 and 10 and 18 of 12 and 13 (compression), all servers at once; with --full all 517 cases: also 9
# (limits and speed) and the rest of 12 and 13. The suite runs under Python 2.7 alone, which is looked for and, where it is not there,
# installed. The reports stay in target/autobahn/reports. Status 0 only if every case came to what it must: `check.py`.
set -eu

usage() {
    echo "usage: $0 [--full] PATH_OF_AN_ECHO_SERVER..." >&2
    exit 2
}

classes="1 2 3 4 5 6 7 10 12+ 13+"
patience=600
if [ "${1:-}" = --full ]; then
    classes="1 2 3 4 5 6 7 9 10 12 13"
    patience=7200
    shift
fi
[ $# -ge 1 ] || usage
for server in "$@"; do [ -x "$server" ] || usage; done
here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../.." && pwd)/target/autobahn
reports=$target/reports
work=$(mktemp -d)
servers=
clients=

stop() {
    status=$?
    trap - EXIT
    for pid in $clients $servers; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        for log in "$work"/*.log; do
            [ -s "$log" ] || continue
            echo "--- the last words of $(basename "$log" .log)" >&2
            tail -n 20 "$log" >&2
        done
    fi
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Prints a Python 2.7 that runs.
find_python() {
    for python in python2.7 python2 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7 /usr/local/bin/python2.7; do
        if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            "$python" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

install_python() {
    echo "== Python 2.7 is not there: installing it" >&2
    if apt-get --version >/dev/null 2>&1; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends python2.7 python2.7-dev; } >&2 && return 0
    fi
    if command -v pyenv >/dev/null; then
        pyenv install --skip-existing 2.7.18 >&2 && return 0
    fi
    return 1
}

# A virtual environment of the versions that `requirements.txt` names, made once.
environment() {
    venv="$target/venv"
    python=$(find_python) || { install_python && python=$(find_python); } || {
        echo "$0: there is no Python 2.7, and neither apt nor pyenv has one: install it, as python2.7 in the PATH or by \`pyenv install 2.7.18\`" >&2
        exit 1
    }
    if [ -x "$venv/bin/wstest" ] && cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then return 0; fi
    echo "== Python 2.7 ($python) and the suite" >&2
    rm -rf "$target"
    mkdir -p "$target"
    python3 -m venv "$target/maker"
    # The last one that makes environments of Python 2.7.
    "$target/maker/bin/pip" install --quiet --disable-pip-version-check virtualenv==20.21.1
    "$target/maker/bin/virtualenv" --quiet --python "$python" "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-python-version-warning -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
}

# start SERVER NAME: leaves its address in $work/NAME.url; waits for it at most 20 s.
start() {
    "$1" 127.0.0.1:0 >"$work/$2.log" 2>&1 &
    servers="$servers $!"
    for _ in $(seq 200); do
        sed -n 's|^listening on \(ws://[^ ]*\)$|\1|p' "$work/$2.log" | head -n 1 >"$work/$2.url"
        [ -s "$work/$2.url" ] && return 0
        sleep 0.1
    done
    echo "$0: $1 does not say where it listens" >&2
    return 1
}

# The spec of the client for one server.
spec() {
    python3 - "$1" "$(cat "$work/$1.url")" "$reports/$1" "$(python3 -B "$here/check.py" --cases $classes)" <<'END'
import json, sys
name, url, outdir, cases = sys.argv[1:]
json.dump({"outdir": outdir, "servers": [{"agent": name, "url": url}], "cases": json.loads(cases)}, sys.stdout)
END
}

(cd "$here" && python3 -B -m unittest --quiet check_test)
environment
rm -rf "$reports"
names=
for server in "$@"; do
    name=$(basename "$server")
    start "$server" "$name"
    spec "$name" >"$work/$name.json"
    (cd "$work" && exec timeout "$patience" "$target/venv/bin/wstest" --mode fuzzingclient --spec "$name.json") \
        >"$work/$name.client.log" 2>&1 &
    clients="$clients $!"
    names="$names $name"
done
for client in $clients; do
    # Its status says nothing but that it came to its end.
    wait "$client" || { echo "$0: a client did not come to its end within $patience s" >&2; exit 1; }
done
clients=
failed=0
for name in $names; do python3 -B "$here/check.py" "$reports/$name" "$name" $classes || failed=1; done
for server in $servers; do
    kill -0 "$server" 2>/dev/null || { echo "$0: a server has ended" >&2; failed=1; }
done
exit "$failed"
