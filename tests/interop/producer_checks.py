"""Checks a running server, and `producer.py` at it, against what the protocol says of producers.

    TRUNKLINE_URL=... TRUNKLINE_TOKEN_ANN=... TRUNKLINE_TOKEN_BOB=... TRUNKLINE_TOKEN_AGENT=... \\
    TRUNKLINE_TOKEN_AGENT_OF_ANN=... producer_checks.py

The server has no agent, and no other producer is there. TRUNKLINE_TOKEN_AGENT has the scope `publish`,
TRUNKLINE_TOKEN_AGENT_OF_ANN has `publish:ann`. Output and exit status are those of `python_client.py`.
"""

import asyncio
import contextlib
import os
import pathlib
import sys
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed

from python_client import ANN, BOB, check_run, final_text, lifecycle, run_checks
from python_connection import QUESTION, STEP_SECONDS, URL, Client, brief, carried, dial, expect

AGENT = os.environ["TRUNKLINE_TOKEN_AGENT"]
AGENT_OF_ANN = os.environ["TRUNKLINE_TOKEN_AGENT_OF_ANN"]

THINKING = {"type": "agent_thinking", "thought": "hm"}
COMPLETED = {"type": "agent_completed", "final_response": "14"}


class Producer(Client):
    """A producer's connection, which sends what it is told to, right or wrong."""

    @classmethod
    async def come(cls, token=AGENT, name="checks"):
        producer = cls(await dial(**carried(token, "subprotocol")))
        await producer.send({"type": "hello", "producer": {"id": name}})
        welcome = await producer.read_raw()
        expect(welcome["type"] == "welcome", f"the first frame is {brief(welcome)}")
        expect(welcome["streams"] == [], f"a producer has streams: {brief(welcome['streams'])}")
        return producer

    async def start(self, user="ann", **fields):
        """A run of its own, and the last `n` that the server has of it."""
        start = {"type": "run_start", "user_id": user, "thread_id": "t-producer", "agent_name": "checks", **fields}
        reply = await self.request(start)
        expect(reply["ok"], f"no run: {brief(reply)}")
        return reply["run_id"], reply["last_n"]

    async def event(self, run_id, n, event):
        await self.send({"type": "run_event", "run_id": run_id, "n": n, "event": event})

    async def receipt(self, run_id, n, event):
        return await self.request({"type": "run_event", "run_id": run_id, "n": n, "event": event})

    async def refused(self, run_id, n, code):
        """The refusal of an event without an `id`."""
        error = await self.wait_for(lambda frame: frame["type"] == "error", "refusal")
        found = error["code"], error.get("run_id"), error.get("n")
        expect(found == (code, run_id, n), f"not a refusal {code} of {n}: {brief(error)}")


async def closed_at_hello(token, producer):
    client = Client(await dial(**carried(token, "subprotocol")))
    with contextlib.suppress(ConnectionClosed):
        await client.send({"type": "hello", "producer": producer})
    code, types = await client.closed()
    expect((code, types) == (4403, []), f"close code {code} after {types}, not 4403")


async def another_user():
    producer = await Producer.come(AGENT_OF_ANN)
    start = {"type": "run_start", "user_id": "bob", "thread_id": "t", "agent_name": "checks"}
    reply = await producer.request(start)
    expect(reply.get("error", {}).get("code") == "not_found", f"not refused as not_found: {brief(reply)}")
    publish = {"type": "publish", "user_id": "bob", "name": "news", "data": 1}
    reply = await producer.request(publish)
    expect(reply.get("error", {}).get("code") == "not_found", f"not refused as not_found: {brief(reply)}")
    await producer.start("ann")
    await producer.close()


async def numbers():
    """A gap is refused and uses nothing up, what came already changes nothing, and nothing follows the end."""
    ann, producer = await Client.open(ANN), await Producer.come()
    run, last = await producer.start()
    expect(last == 0, f"a new run has {last} events")
    await producer.event(run, 2, THINKING)
    await producer.refused(run, 2, "run_order")
    for _ in range(3):
        reply = await producer.receipt(run, 1, THINKING)
        expect(reply["ok"] and reply.get("delivered_to", 0) >= 1, f"no receipt: {brief(reply)}")
    await producer.receipt(run, 2, COMPLETED)
    await producer.event(run, 3, THINKING)
    await producer.refused(run, 3, "run_ended")
    again = await producer.request({"type": "run_start", "user_id": "ann", "thread_id": "t", "agent_name": "checks",
                                    "run_id": run})
    expect(again.get("error", {}).get("code") == "run_ended", f"not refused as run_ended: {brief(again)}")
    await ann.read_run(run)
    await ann.quiet()
    kinds = [event["type"] for event in ann.events_of(run)]
    expect(kinds == ["agent_started", "agent_thinking", "agent_completed"], f"the device sees {kinds}")
    await ann.close()
    await producer.close()


async def taking_over():
    """A run is its producer's while that is there, and goes on after `last_n` when it has come back."""
    ann, producer, rival = await Client.open(ANN), await Producer.come(), await Producer.come(name="rival")
    run, _ = await producer.start(key="once", lease=20)
    expect(await producer.start(key="once") == (run, 0), "the same key, another run")
    await producer.receipt(run, 1, THINKING)
    reply = await rival.request({"type": "run_start", "user_id": "ann", "thread_id": "t", "agent_name": "rival", "run_id": run})
    expect(reply.get("error", {}).get("code") == "run_taken", f"not refused as run_taken: {brief(reply)}")
    producer.drop()
    producer = await Producer.come()
    expect(await producer.start(run_id=run) == (run, 1), "the run is not where it was")
    await producer.receipt(run, 2, COMPLETED)
    kinds = [event["type"] for event in await ann.read_run(run)]
    expect(kinds == ["agent_started", "agent_thinking", "agent_completed"], f"the device sees {kinds}")
    for client in (ann, producer, rival):
        await client.close()


async def lease():
    ann, producer = await Client.open(ANN), await Producer.come()
    run, _ = await producer.start(lease=1)
    producer.drop()
    end = (await ann.read_run(run))[-1]
    expect((end["type"], end.get("reason")) == ("agent_failed", "producer_lost"), f"the run ends by {brief(end)}")
    await ann.close()


async def nobody_there():
    ann = await Client.open(ANN)
    for frame in ({"type": "user_message", "thread_id": "t", "content": "hi"}, {"type": "command", "name": "calculate"}):
        error = (await ann.request(frame)).get("error", {})
        expect((error.get("code"), error.get("temporary")) == ("unavailable", True), f"not unavailable: {brief(error)}")
    await ann.close()


class Line:
    """A TCP relay to the server, whose connections can be cut."""

    def __init__(self):
        self.pipes = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        self.url = "ws://127.0.0.1:%d/ws" % self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()

    async def relay(self, reader, writer):
        there = urlsplit(URL)
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        self.pipes |= {writer, far_writer}

        async def pump(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(4096):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def cut(self):
        for writer in self.pipes:
            writer.transport.abort()
        self.pipes.clear()


@contextlib.asynccontextmanager
async def example(url=URL):
    """`producer.py`, which has connected."""
    path = pathlib.Path(__file__).with_name("producer.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", path, url, env=os.environ | {"TRUNKLINE_TOKEN": AGENT}, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(STEP_SECONDS):
            while await process.stderr.readline() != b"connected\n":
                expect(process.returncode is None, "producer.py has ended")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def example_answers():
    async with example():
        ann = await Client.open(ANN)
        check_run(await ann.read_run(await ann.ask()))
        reply = await ann.request({"type": "command", "name": "calculate", "args": "2*(3+4)"})
        expect(reply.get("result") == {"results": {"value": 14}}, f"not 14: {brief(reply)}")
        reply = await ann.request({"type": "command", "name": "sing"})
        expect(reply.get("error", {}).get("code") == "refused", f"not refused: {brief(reply)}")
        await ann.close()


async def example_is_cancelled():
    async with example():
        ann = await Client.open(ANN)
        run = await ann.ask("what is " + "+".join(["1"] * 40) + "? " + QUESTION)
        await ann.request({"type": "cancel_run", "run_id": run})
        end = (await ann.read_run(run))[-1]
        expect((end["type"], end.get("by")) == ("agent_cancelled", "ann"), f"the run ends by {brief(end)}")
        await ann.close()


async def example_is_cut():
    """At every event of a run: each device has each event once, and the run goes on to its end."""
    ann, phone = await Client.open(ANN), await Client.open(ANN)
    for kind in ("agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta", "agent_completed"):
        # One of its own for each, since the back-off of one that is cut again and again is long.
        async with Line() as line, example(line.url):
            run = await ann.ask()
            if not any(event["type"] == kind for event in ann.events_of(run)):
                await ann.wait_for(lambda frame: frame["type"] == kind and frame.get("run_id") == run, kind)
            line.cut()
            whole = await ann.read_run(run)
            check_run(whole)
            expect(lifecycle(await phone.read_run(run)) == lifecycle(whole), "the devices see different events")
            expect(final_text(whole) == "2*(3+4) = 14", f"the text is {final_text(whole)!r}")
    await ann.quiet()
    await ann.close()
    await phone.close()


CHECKS = [
    ("no scope: 4403", lambda: closed_at_hello(ANN, {"id": "x"})),
    ("requests of a user that the scope does not name: 4403",
     lambda: closed_at_hello(AGENT_OF_ANN, {"id": "x", "users": ["bob"]})),
    ("another user: not_found", another_user),
    ("a gap, an event twice, an event after the end", numbers),
    ("a run is its producer's, and is taken over after a drop", taking_over),
    ("a run ends with its lease", lease),
    ("no producer: unavailable", nobody_there),
    ("producer.py answers a message and a command", example_answers),
    ("producer.py stops when its run is cancelled", example_is_cancelled),
    ("producer.py is cut at every event and loses and repeats nothing", example_is_cut),
]

if __name__ == "__main__":
    sys.exit(asyncio.run(run_checks(CHECKS)))
