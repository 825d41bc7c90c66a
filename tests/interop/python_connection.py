"""One connection of Python's `websockets`, which verifies what it reads."""

import asyncio
import json
import os
import time
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = os.environ["TRUNKLINE_URL"]

STEP_SECONDS = 10  # One frame, one close.
QUIET_SECONDS = 0.5  # How long nothing must come where nothing may.

QUESTION = "what is 2*(3+4)?"
RUN_EVENTS = {
    "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta", "agent_deltas",
    "agent_suspended", "agent_resumed", "agent_completed", "agent_failed", "agent_cancelled",
}
EVENTS = RUN_EVENTS | {"user_message", "custom"}
TERMINAL = {"agent_completed", "agent_failed", "agent_cancelled"}


class Failed(Exception):
    """A check does not hold."""


def expect(condition, message):
    if not condition:
        raise Failed(message)


def brief(frame):
    text = frame if isinstance(frame, str) else json.dumps(frame)
    return text if len(text) <= 200 else text[:200] + "..."


def parse_position(event_id):
    epoch, dash, seq = str(event_id).partition("-")
    expect(dash and epoch.isdigit() and seq.isdigit(), f"event_id {event_id!r} is not <epoch>-<seq>")
    return int(epoch), int(seq)


class Client:
    """One connection that verifies every frame it reads, and keeps the events of the user's own stream."""

    def __init__(self, socket):
        self.socket = socket
        self.events = []
        self.set_aside = []
        self.welcome = None
        self.position = None

    @classmethod
    async def open(cls, token, carrier="subprotocol", resume=None):
        """Connects and reads the welcome."""
        client = cls(await dial(**carried(token, carrier)))
        hello = {"type": "hello", "client": {"name": "interop-python"}}
        if carrier == "hello":
            hello["token"] = token
        if resume is not None:
            hello["resume"] = {"user": resume}
        await client.send(hello)
        await client.read_welcome()
        return client

    async def send(self, frame):
        await self.send_raw(json.dumps(frame))

    async def send_raw(self, data):
        await asyncio.wait_for(self.socket.send(data), STEP_SECONDS)

    async def read_welcome(self):
        frame = await self.read_raw()
        expect(frame["type"] == "welcome", f"the first frame is {brief(frame)}, not a welcome")
        for field in ("connection_id", "session_id", "user_id", "server_time", "expires_in", "heartbeat", "limits",
                      "service_level", "streams"):
            expect(field in frame, f"the welcome has no {field}")
        stream = next((s for s in frame["streams"] if s["stream"] == "user"), None)
        expect(stream, "the welcome names no user stream")
        self.welcome, self.stream = frame, stream
        self.position = parse_position(stream["event_id"])

    async def caught_up(self):
        """Reads what the welcome announced."""
        head = parse_position(self.stream["head"])
        while self.position != head:
            await self.read()
            expect(self.position <= head, f"past {head} without having been at it")

    async def read_raw(self):
        text = await asyncio.wait_for(self.socket.recv(), STEP_SECONDS)
        expect(isinstance(text, str), "the server sent a binary message")
        frame = json.loads(text)
        expect(isinstance(frame, dict) and isinstance(frame.get("type"), str), f"no frame with a type: {brief(text)}")
        return frame

    async def read(self):
        """The next frame, its position verified."""
        frame = await self.read_raw()
        expect(frame["type"] != "welcome", "a second welcome")
        if "event_id" in frame and frame.get("stream", "user") == "user":
            self.follow(frame)
        return frame

    def follow(self, frame):
        epoch, seq = parse_position(frame["event_id"])
        if frame["type"] == "snapshot":
            if frame["part"] == frame["of"]:
                self.position = epoch, seq
            return
        prev = frame.get("prev", seq - 1)
        expect((epoch, prev) == self.position, f"at {self.position}, a frame that follows {(epoch, prev)}")
        expect(seq > prev, f"{frame['event_id']} does not follow its prev {prev}")
        self.position = epoch, seq
        if frame["type"] in EVENTS:
            expect(frame.get("seq") == seq, f"seq {frame.get('seq')} in {frame['event_id']}")
            owner = frame.get("user_id", self.welcome["user_id"])
            expect(owner == self.welcome["user_id"], f"an event of {owner}")
            self.events.append(frame)

    async def wait_for(self, matches, what):
        """The first frame that matches, also among those read before; others are kept for later waits."""
        for at, frame in enumerate(self.set_aside):
            if matches(frame):
                return self.set_aside.pop(at)
        deadline = time.monotonic() + STEP_SECONDS
        while time.monotonic() < deadline:
            try:
                frame = await self.read()
            except asyncio.TimeoutError:
                break
            if matches(frame):
                return frame
            self.set_aside.append(frame)
        raise Failed(f"no {what} within {STEP_SECONDS} s")

    async def request(self, frame):
        """Sends with an id of its own and waits for the reply."""
        frame = {**frame, "id": "q-" + uuid.uuid4().hex}
        await self.send(frame)
        return await self.wait_for(lambda f: f["type"] == "reply" and f.get("id") == frame["id"], "reply")

    async def ask(self, content=QUESTION, thread="t-python"):
        """Sends a message, and returns its run."""
        reply = await self.request({"type": "user_message", "thread_id": thread, "content": content})
        expect(reply.get("ok") is True and isinstance(reply.get("run_id"), str), f"no run: {brief(reply)}")
        return reply["run_id"]

    async def read_run(self, run_id):
        """Reads to the end of a run."""
        if not any(is_end(event, run_id) for event in self.events):
            await self.wait_for(lambda frame: is_end(frame, run_id), f"end of run {run_id}")
        return self.events_of(run_id)

    def events_of(self, run_id):
        """The events of a run, and of merged text its pieces."""
        events = []
        for event in self.events:
            if event["type"] == "agent_deltas":
                event = {**event, "parts": [part for part in event["parts"] if part["run_id"] == run_id]}
                if event["parts"]:
                    events.append(event)
            elif event.get("run_id") == run_id and event["type"] in RUN_EVENTS:
                events.append(event)
        return events

    async def pong(self):
        ping = "p-" + uuid.uuid4().hex
        await self.send({"type": "ping", "id": ping})
        await self.wait_for(lambda frame: frame["type"] == "pong" and frame.get("id") == ping, "pong")

    async def quiet(self):
        """Reads on for a while."""
        await self.pong()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while True:
                    self.set_aside.append(await self.read())
        except TimeoutError:
            pass

    async def closed(self):
        """Reads to the close, and returns its code and the types of the frames before it."""
        types = []
        try:
            while True:
                types.append((await self.read_raw())["type"])
                expect(len(types) < 1000, "frames without end instead of a close")
        except ConnectionClosed as closed:
            expect(closed.rcvd is not None, "the connection ended without a close frame")
            return closed.rcvd.code, types
        except asyncio.TimeoutError:
            raise Failed(f"no close within {STEP_SECONDS} s, after {types}") from None

    async def close(self, code=1000, reason=""):
        await asyncio.wait_for(self.socket.close(code, reason), STEP_SECONDS)
        received = self.socket.protocol.close_rcvd
        return received.code if received else None

    def drop(self):
        """Ends the TCP connection without a word."""
        self.socket.transport.abort()


def is_end(frame, run_id):
    return frame["type"] in TERMINAL and frame.get("run_id") == run_id


async def dial(subprotocols=("trunkline.v1",), headers=None):
    socket = await connect(
        URL,
        subprotocols=list(subprotocols),
        additional_headers=headers or {},
        open_timeout=STEP_SECONDS,
        close_timeout=STEP_SECONDS,
        ping_interval=None,
        max_size=2**20,
        proxy=None,
    )
    expect(socket.subprotocol == "trunkline.v1", f"the server chose the subprotocol {socket.subprotocol!r}")
    return socket


def carried(token, carrier):
    """What the upgrade carries."""
    if carrier == "subprotocol":
        return {"subprotocols": ("trunkline.v1", f"bearer.{token}")}
    if carrier == "authorization":
        return {"headers": {"Authorization": f"Bearer {token}"}}
    return {}
