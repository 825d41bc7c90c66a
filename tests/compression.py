#!/usr/bin/env python3
"""What compression saves and costs: bytes on the wire and the server's processor time, for a delivery, with it and without.

    tests/compression.py BENCH_SERVER [SUBSCRIBERS] [EVENTS]

Starts `bench_server` twice, once with compression and once without, and publishes events of several sizes to the subscribers of a
topic, as a back end does. Each event is the result of a tool: a list of records in JSON, all different. Bytes are those that the
loopback device carries, acknowledgements and headers of TCP included.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import websockets

SECRET = "a secret of the comparison, 32 bytes"
RECORDS = [2, 8, 32]
RUNTIMES = ["tokio", "smol"]


def token(user, scope):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"sub": user, "scope": scope, "exp": 4102444800}
    signed = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256"}, claims))
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


def event(records, n):
    draw = random.Random(n)
    rows = [
        {"invoice": draw.randrange(10**6), "customer": f"customer-{draw.randrange(999)}", "amount": round(draw.random() * 900, 2), "paid": draw.random() < 0.5}
        for _ in range(records)
    ]
    return {"tool_name": "invoices", "results": rows, "summary": f"{records} invoices were found in the ledger"}


def connect(url, user, scope):
    headers = {"Authorization": f"Bearer {token(user, scope)}"}
    return websockets.connect(url, subprotocols=["trunkline.v1"], additional_headers=headers, max_queue=None, max_size=None)


def carried():
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


def cpu(pid):
    return sum(int(Path(task, "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


async def take(socket, count):
    taken = 0
    while taken < count:
        taken += '"name":"invoices"' in await socket.recv()


async def measure(url, pid, subscribers, events):
    sockets = [await connect(url, f"user-{n}", "topic:*") for n in range(subscribers)]
    for socket in sockets:
        await socket.send(json.dumps({"type": "hello", "topics": ["news"]}))
        await socket.recv()
    producer = await connect(url, "billing", "publish")
    await producer.send(json.dumps({"type": "hello", "producer": {"id": "billing"}}))
    await producer.recv()
    for records in RECORDS:
        texts = [json.dumps({"type": "publish", "topic": "news", "name": "invoices", "data": event(records, n)}) for n in range(events)]
        size = sum(map(len, texts)) // events
        bytes_before, cpu_before = carried(), cpu(pid)
        for text in texts:
            await producer.send(text)
            await asyncio.gather(*(take(socket, 1) for socket in sockets))
        deliveries = subscribers * events
        yield size, (carried() - bytes_before) / deliveries, 1e6 * (cpu(pid) - cpu_before) / deliveries


async def main(program, subscribers, events):
    print("| runtime | compression | bytes of the event | bytes carried for a delivery | processor time for a delivery, µs |")
    print("|---|---|---|---|---|")
    for runtime in RUNTIMES:
        for name, flags in (("off", ["--deflate-from", "0"]), ("on", [])):
            with tempfile.NamedTemporaryFile("w") as secret:
                secret.write(SECRET)
                secret.flush()
                command = [program, "--runtime", runtime, "--threads", "1", "--listen", "127.0.0.1:0", "--secret-file", secret.name, *flags]
                server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                try:
                    url = server.stdout.readline().strip()
                    async for size, carries, costs in measure(url, server.pid, subscribers, events):
                        print(f"| {runtime} | {name} | {size} | {carries:.0f} | {costs:.1f} |", flush=True)
                finally:
                    server.kill()


if __name__ == "__main__":
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(__doc__)
    numbers = [int(number) for number in sys.argv[2:]]
    asyncio.run(main(sys.argv[1], *(numbers + [100, 200][len(numbers):])))
