#!/bin/sh
# Foreign clients and a foreign agent against a running server: run.sh PATH_OF_THE_TRUNKLINE_BINARY
#
# Builds nothing. Starts the server on a free loopback port, with a secret of its own in a folder that is removed at the
# end, and runs the Python and the Node client against it: first with the agent that is built in, after which the reference
# parser of Prometheus reads the metrics, then without it, where `producer.py` answers. Last come the checks of producers.
# Status 0 only if all of them pass.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 PATH_OF_THE_TRUNKLINE_BINARY" >&2
    exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
producer=

# Ends a process of this script, where there is one.
end() {
    if [ -n "$1" ]; then
        kill "$1" 2>/dev/null || true
        wait "$1" 2>/dev/null || true
    fi
}

stop() {
    status=$?
    trap - EXIT
    end "$producer"
    end "$server"
    if [ "$status" -ne 0 ]; then
        for log in server producer; do
            [ -s "$work/$log.log" ] || continue
            echo "--- the $log's last words" >&2
            tail -n 40 "$work/$log.log" >&2
        done
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
# serve FLAGS: a server of its own port, and TRUNKLINE_URL. Waits until /healthz answers, at most 20 s.
serve() {
    end "$server"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Without this script's own variables, which are no settings.
    env -i "$binary" serve --dev --listen "127.0.0.1:$port" --secret-file "$work/secret" "$@" >"$work/server.log" 2>&1 &
    server=$!
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
    export TRUNKLINE_URL="ws://127.0.0.1:$port/ws"
}

token() { "$binary" token --secret-file "$work/secret" "$@"; }
TRUNKLINE_TOKEN_EXPIRED=$(token --user ann --ttl 1s)
TRUNKLINE_TOKEN_ANN=$(token --user ann)
TRUNKLINE_TOKEN_BOB=$(token --user bob)
TRUNKLINE_TOKEN_AGENT=$(token --user agent --scope publish)
TRUNKLINE_TOKEN_AGENT_OF_ANN=$(token --user agent --scope publish:ann)
export TRUNKLINE_TOKEN_EXPIRED TRUNKLINE_TOKEN_ANN TRUNKLINE_TOKEN_BOB TRUNKLINE_TOKEN_AGENT TRUNKLINE_TOKEN_AGENT_OF_ANN
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

failed=0
clients() {
    echo "== Python, websockets: $1"
    timeout 300 "$work/venv/bin/python" -B "$here/python_client.py" || failed=1
    echo "== Node, ws: $1"
    (cd "$work" && timeout 300 node node_client.mjs) || failed=1
}

serve
clients "the agent that is built in"

echo "== Python, prometheus_client: the metrics"
timeout 60 "$work/venv/bin/python" -B "$here/metrics_checks.py" || failed=1

serve --no-agent
TRUNKLINE_TOKEN=$TRUNKLINE_TOKEN_AGENT "$work/venv/bin/python" -B "$here/producer.py" "$TRUNKLINE_URL" \
    >"$work/producer.log" 2>&1 &
producer=$!
# Until it has come, at most 20 s: before that nobody answers.
for _ in $(seq 200); do
    grep -qx connected "$work/producer.log" && break
    sleep 0.1
done
clients "producer.py alone"
echo "== trunkline chat: producer.py alone"
env -i "$binary" chat --url "$TRUNKLINE_URL" --user ann --message 'what is 2*(3+4)?' | grep -x '2\*(3+4) = 14' || failed=1
end "$producer"
producer=

echo "== Python, websockets: producers"
timeout 300 "$work/venv/bin/python" -B "$here/producer_checks.py" || failed=1
exit "$failed"
