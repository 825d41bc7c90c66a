"""An agent outside the server, on the package `websockets`: it computes what users ask, such as `what is 2*(3+4)?`

    TRUNKLINE_TOKEN=$(trunkline token --user agent --scope publish ...) python3 producer.py [ws://127.0.0.1:8787/ws]

With `TRUNKLINE_TOKEN_FILE` in its place it goes on for ever, as long as somebody writes a newer token into that file in time.
"""

import asyncio, itertools, json, math, os, random, sys, time
from calculator import answer, calculate
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

URL = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8787/ws"
HELLO = {"type": "hello", "producer": {"id": "calculator"}}


def read_token():
    """The newest token that there is."""
    if path := os.environ.get("TRUNKLINE_TOKEN_FILE"):
        with open(path) as file:
            return file.read().strip()
    return os.environ["TRUNKLINE_TOKEN"]


class Run:
    def __init__(self, request):
        self.start = {key: request[key] for key in ("run_id", "user_id", "thread_id")} | {"agent_name": "calculator", "lease": 30}
        self.steps, self.events = answer(request["content"]), []

    def event(self, n):
        """Event `n`, counted from 1. Those that were sent are kept: a lost connection may have swallowed some."""
        self.events.extend(itertools.islice(self.steps, n - len(self.events)))
        return self.events[n - 1]


class Producer:
    def __init__(self):
        self.runs = {}  # Those that are open, by id. They outlive a connection.

    async def send(self, frame):
        await self.socket.send(json.dumps(frame))  # Waits while the server reads more slowly than this writes.

    async def ask(self, frame):
        """Sends a frame with an `id`, and waits for the reply to it."""
        frame["id"] = str(next(self.ids))
        reply = self.replies[frame["id"]] = asyncio.get_running_loop().create_future()
        await self.send(frame)
        return await reply

    async def produce(self, run):
        """Starts a run, or takes it over after a reconnect, and sends what the server does not have of it yet."""
        started = await self.ask({"type": "run_start", **run.start})
        n, last = started.get("last_n", 0), not started["ok"]
        while not last:
            event, n = run.event(n + 1), n + 1
            last = event["type"] in ("agent_completed", "agent_cancelled")
            # A run is over once its last event has come, and only a receipt says so.
            await (self.ask if last else self.send)({"type": "run_event", "run_id": run.start["run_id"], "n": n, "event": event})
            await asyncio.sleep(0.02)
        del self.runs[run.start["run_id"]]

    async def refresh(self, left):
        """Gives the server a newer token. While there is none it looks again after half of what is left of the one in use."""
        while left > 0.05:
            newer = read_token()
            if newer != self.token and (await self.ask({"type": "refresh", "token": newer}))["ok"]:
                self.token = newer
                return
            wait = min(30, left / 2)
            left -= wait
            await asyncio.sleep(wait)

    async def work(self, socket, token):
        """Reads until the connection ends. What writes is a task of its own, so that reading never waits for writing."""
        self.socket, self.token, self.ids, self.replies = socket, token, itertools.count(1), {}
        async with asyncio.TaskGroup() as tasks:
            for run in self.runs.values():
                tasks.create_task(self.produce(run))
            async for text in socket:
                match json.loads(text):
                    case {"type": "reply", "id": id} as reply:
                        self.replies.pop(id).set_result(reply)
                    case {"type": "auth_expiring", "expires_in": left}:
                        tasks.create_task(self.refresh(left))
                    case {"type": "error"} as error:
                        print(error, file=sys.stderr)
                    case {"request": "user_message", "run_id": id} as request if id not in self.runs:
                        self.runs[id] = Run(request)
                        tasks.create_task(self.produce(self.runs[id]))
                    case {"request": "cancel_run", "run_id": id, "by": by} if id in self.runs:
                        self.runs[id].steps = iter([{"type": "agent_cancelled", "by": by, "reason": "asked to stop"}])
                    case {"request": "command", "id": id, "name": "calculate", "args": expression}:
                        tasks.create_task(self.send({"type": "reply", "id": id, "ok": True, "result": calculate(expression)}))
                    case {"request": "command", "id": id}:
                        error = {"code": "refused", "message": "there is no such command", "temporary": False}
                        tasks.create_task(self.send({"type": "reply", "id": id, "ok": False, "error": error}))
            raise ConnectionError("closed by the server")  # Which ends the tasks.


async def main():
    producer, losses = Producer(), 0  # In a row, since a connection that lasted.
    while True:
        socket, since = None, math.inf
        try:
            async with connect(URL, subprotocols=["trunkline.v1"]) as socket:
                token = read_token()
                await socket.send(json.dumps(HELLO | {"token": token}))
                await socket.recv()  # The welcome.
                print("connected", file=sys.stderr)
                since = time.monotonic()
                await producer.work(socket, token)
        except* (OSError, WebSocketException) as lost:
            print(f"lost: {lost.exceptions[0]}", file=sys.stderr)
        if socket and 4200 <= (socket.close_code or 0) < 4500:
            sys.exit(f"closed with {socket.close_code}: this token, or this producer, is not wanted")
        losses = 0 if time.monotonic() - since > 10 else losses + 1
        await asyncio.sleep(random.uniform(0, min(30, 0.5 * 2**losses)))  # Full jitter.


asyncio.run(main())
