#!/bin/sh
# Foreign clients against a running server: run.sh PATH_OF_THE_TRUNKLINE_BINARY
#
# Builds nothing. Starts the server on a free loopback port, with a secret of its own in a folder that is removed at the
# end, and runs the Python and the Node client against it. Status 0 only if both pass.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 PATH_OF_THE_TRUNKLINE_BINARY" >&2
    exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=

stop() {
    status=$?
    trap - EXIT
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -s "$work/server.log" ]; then
        echo "--- the server's last words" >&2
        tail -n 40 "$work/server.log" >&2
    fi
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# The server's settings are this script's alone.
for name in $(env | sed -n 's/^\(TRUNKLINE_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/package.json" "$here/package-lock.json" "$here"/*.mjs "$work/"
(cd "$work" && npm ci --silent --no-audit --no-fund)

(umask 077 && head -c 48 /dev/urandom | base64 >"$work/secret")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$binary" serve --dev --listen "127.0.0.1:$port" --secret-file "$work/secret" >"$work/server.log" 2>&1 &
server=$!

# Until /healthz answers, at most 20 s.
python3 - "http://127.0.0.1:$port/healthz" <<'END'
import sys, time, urllib.request
url = sys.argv[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + 20
while True:
    try:
        with opener.open(url, timeout=2) as answer:
            answer.read()
            break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"{url}: {error}")
        time.sleep(0.05)
END

token() { "$binary" token --secret-file "$work/secret" "$@"; }
TRUNKLINE_URL=ws://127.0.0.1:$port/ws
TRUNKLINE_TOKEN_EXPIRED=$(token --user ann --ttl 1s)
TRUNKLINE_TOKEN_ANN=$(token --user ann)
TRUNKLINE_TOKEN_BOB=$(token --user bob)
export TRUNKLINE_URL TRUNKLINE_TOKEN_EXPIRED TRUNKLINE_TOKEN_ANN TRUNKLINE_TOKEN_BOB

failed=0
echo "== Python, websockets"
timeout 300 "$work/venv/bin/python" -B "$here/python_client.py" || failed=1
echo "== Node, ws"
(cd "$work" && timeout 300 node node_client.mjs) || failed=1
exit "$failed"
