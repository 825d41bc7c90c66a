"""A foreign client checks a running server against the protocol: Python's `websockets`.

    TRUNKLINE_URL=ws://127.0.0.1:8787/ws TRUNKLINE_TOKEN_ANN=... TRUNKLINE_TOKEN_BOB=... python_client.py

TRUNKLINE_TOKEN_EXPIRED, where given, is a token of ann's that has expired or is about to. One line per check, then
`N passed, N failed`; the exit status is 1 if a check failed. Every wait has a deadline.
"""

import asyncio
import base64
import json
import os
import sys
import time

from websockets.exceptions import ConnectionClosed, InvalidStatus

from python_connection import (
    QUESTION, RUN_EVENTS, STEP_SECONDS, TERMINAL, Client, Failed, brief, carried, dial, expect, is_end,
)

ANN = os.environ["TRUNKLINE_TOKEN_ANN"]
BOB = os.environ["TRUNKLINE_TOKEN_BOB"]
EXPIRED = os.environ.get("TRUNKLINE_TOKEN_EXPIRED")

CHECK_SECONDS = 30  # One check.
LEEWAY_SECONDS = 5  # The server's allowance for clocks that differ.
MESSAGE_BYTES = 64 * 1024
ANSWER = "14"


def check_run(events):
    """The run automaton, from the viewer's side."""
    kinds = [event["type"] for event in events]
    expect(kinds and kinds[0] == "agent_started" and kinds.count("agent_started") == 1, f"it starts wrongly: {kinds}")
    expect(kinds[-1] == "agent_completed", f"it ends in {kinds[-1]}: {brief(events[-1])}")
    expect(sum(kind in TERMINAL for kind in kinds) == 1, f"it ends more than once: {kinds}")
    for kind in ("agent_thinking", "tool_executing", "tool_completed", "agent_delta"):
        expect(kind in kinds or (kind == "agent_delta" and "agent_deltas" in kinds), f"it has no {kind}: {kinds}")
    open_tools = {}
    for event in events:
        if event["type"] == "tool_executing":
            whole = event.get("tool_name") and "parameters" in event
            expect(whole, f"a tool without name or parameters: {brief(event)}")
            open_tools[event["tool_call_id"]] = event["tool_name"]
        if event["type"] == "tool_completed":
            name = open_tools.pop(event["tool_call_id"], None)
            expect(name == event["tool_name"], f"a tool ends that did not begin: {brief(event)}")
            expect("results" in event and event.get("success") is True, f"a tool without results: {brief(event)}")
    expect(not open_tools, f"tools left open: {open_tools}")
    text = final_text(events)
    expect(ANSWER in text, f"the streamed answer is {text!r}")
    response = events[-1].get("final_response")
    expect(response is None or ANSWER in response, f"the final response is {response!r}")


def final_text(events):
    """The text of all parts; a piece lies at its offset, in Unicode scalar values."""
    parts = {}
    for event in events:
        pieces = {"agent_deltas": event.get("parts"), "agent_delta": [event]}.get(event["type"])
        for piece in pieces or []:
            so_far = parts.get(piece["part_id"], "")
            expect(piece["offset"] <= len(so_far), f"a gap in the text before {piece['offset']}")
            parts[piece["part_id"]] = so_far[: piece["offset"]] + piece["text"]
    return "".join(parts.values())


def lifecycle(events):
    """What every device must see alike, whether text was merged for it or not."""
    same = [event for event in events if event["type"] not in ("agent_delta", "agent_deltas")]
    return [{key: value for key, value in event.items() if key != "prev"} for event in same]


async def golden_path(carrier):
    client = await Client.open(ANN, carrier)
    await client.caught_up()
    events_before = len(client.events)
    run_id = await client.ask()
    run = await client.read_run(run_id)
    check_run(run)
    own = [e for e in client.events[events_before:] if e["type"] == "user_message" and e.get("content") == QUESTION]
    expect(own, "the user's own message is no event")
    await client.close()


async def sequence_of_events():
    client = await Client.open(ANN)
    run = await client.read_run(await client.ask())
    seqs = [event["seq"] for event in run]
    expect(seqs and seqs == list(range(seqs[0], seqs[0] + len(seqs))), f"seq does not rise by one: {seqs}")
    fields = ("timestamp", "user_id", "thread_id", "run_id", "run_seq", "agent_name")
    for event in run:
        expect(event["event_id"] == f"{client.position[0]}-{event['seq']}", "event_id is not epoch-seq")
        missing = [field for field in fields if field not in event]
        expect(not missing or event["type"] == "agent_deltas", f"{event['type']} has no {missing}")
    await client.close()


async def two_devices():
    one, two = await Client.open(ANN), await Client.open(ANN, "authorization")
    expect(one.welcome["user_id"] == two.welcome["user_id"], "one user has two names")
    expect(one.welcome["connection_id"] != two.welcome["connection_id"], "two connections share an id")
    run_id = await one.ask()
    run_one, run_two = await one.read_run(run_id), await two.read_run(run_id)
    expect(lifecycle(run_one) == lifecycle(run_two), "the devices see different events")
    expect(final_text(run_one) == final_text(run_two), "the devices see different text")
    expect(lifecycle(run_one), "the devices see no events")
    await one.close()
    await two.close()


async def other_user():
    ann, bob = await Client.open(ANN), await Client.open(BOB)
    expect(ann.welcome["user_id"] != bob.welcome["user_id"], "two users have one name")
    await ann.caught_up()
    await bob.caught_up()
    before = len(bob.events)
    run_of_ann = await ann.ask(thread="t-shared")
    await ann.read_run(run_of_ann)
    await bob.quiet()
    expect(len(bob.events) == before, f"bob sees {brief(bob.events[-1]) if bob.events else ''}")
    others = [frame for frame in bob.set_aside if run_of_ann in json.dumps(frame)]
    expect(not others, f"bob sees {brief(others[0]) if others else ''}")
    before = len(ann.events)
    run_of_bob = await bob.ask(thread="t-shared")
    check_run(await bob.read_run(run_of_bob))
    await ann.quiet()
    expect(len(ann.events) == before, f"ann sees {brief(ann.events[-1])}")
    await ann.close()
    await bob.close()


async def drop_and_resume():
    witness, dropped = await Client.open(ANN), await Client.open(ANN)
    run_id = await dropped.ask()
    if not dropped.events_of(run_id):
        await dropped.wait_for(lambda frame: frame.get("run_id") == run_id and frame["type"] in RUN_EVENTS, "event")
    expect(not any(is_end(event, run_id) for event in dropped.events), "the run ended before the drop")
    dropped.drop()
    whole = await witness.read_run(run_id)
    resumed = await Client.open(ANN, resume=f"{dropped.position[0]}-{dropped.position[1]}")
    expect(resumed.stream["mode"] in ("live", "replay"), f"the stream goes on by {resumed.stream['mode']}")
    expect("lost" not in resumed.stream, f"lost {resumed.stream.get('lost')}")
    expect(resumed.position == dropped.position, f"resumed at {resumed.position}, not at {dropped.position}")
    await resumed.read_run(run_id)
    seen = dropped.events_of(run_id) + resumed.events_of(run_id)
    seqs = [event["seq"] for event in seen]
    expect(len(seqs) == len(set(seqs)), f"an event came twice: {seqs}")
    expect(lifecycle(seen) == lifecycle(whole), "the resumed device lacks an event")
    expect(final_text(seen) == final_text(whole), "the resumed device lacks text")
    check_run(seen)
    await witness.close()
    await resumed.close()


async def resume_without_events():
    """A position from a welcome is as good as one from an event."""
    client = await Client.open(BOB)
    position = client.position
    client.drop()
    sender = await Client.open(BOB)
    run_id = await sender.ask()
    whole = await sender.read_run(run_id)
    resumed = await Client.open(BOB, resume=f"{position[0]}-{position[1]}")
    seen = await resumed.read_run(run_id)
    expect(lifecycle(seen) == lifecycle(whole), "the resumed device lacks an event")
    await sender.close()
    await resumed.close()


async def refused_by_close(expected, token=None, carrier="none", hello_token=None, first=None):
    """The upgrade is accepted and the connection closed, before or after the first frame, and never welcomed."""
    client = Client(await dial(**carried(token, carrier)))
    hello = {"type": "hello"} if hello_token is None else {"type": "hello", "token": hello_token}
    try:
        await client.send(first or hello)
    except ConnectionClosed:
        pass
    code, types = await client.closed()
    expect("welcome" not in types, "a welcome")
    expect(code == expected, f"close code {code}, not {expected}")


async def refused_by_status(token):
    try:
        socket = await dial(**carried(token, "authorization"))
    except InvalidStatus as refused:
        expect(refused.response.status_code == 401, f"status {refused.response.status_code}, not 401")
        return
    await socket.close()
    raise Failed("the upgrade was accepted")


def unsigned(token):
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def with_foreign_signature(token, other):
    head, payload, _ = token.split(".")
    return f"{head}.{payload}.{other.split('.')[2]}"


async def until_expired(token):
    payload = token.split(".")[1]
    expiry = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
    wait = expiry + LEEWAY_SECONDS + 1.5 - time.time()
    expect(wait < CHECK_SECONDS / 2, f"TRUNKLINE_TOKEN_EXPIRED holds for {wait:.0f} s more")
    await asyncio.sleep(max(wait, 0))


async def refuses_expired():
    await until_expired(EXPIRED)
    await refused_by_close(4200, EXPIRED, "subprotocol")
    await refused_by_close(4200, hello_token=EXPIRED)
    await refused_by_status(EXPIRED)


async def answers_error(raw, code):
    client = await Client.open(ANN)
    await client.send_raw(raw)
    frame = await client.wait_for(lambda frame: frame["type"] in ("error", "reply"), "error")
    expect(frame["type"] == "error" and frame.get("code") == code, f"not an error {code}: {brief(frame)}")
    expect(isinstance(frame.get("message"), str), f"an error without a message: {brief(frame)}")
    await client.pong()
    await client.close()


async def answers_reply_error(frame, code):
    client = await Client.open(ANN)
    reply = await client.request(frame)
    error = reply.get("error") or {}
    expect(reply.get("ok") is False and error.get("code") == code, f"not refused as {code}: {brief(reply)}")
    expect(isinstance(error.get("temporary"), bool), f"an error that does not say if it is temporary: {brief(reply)}")
    await client.pong()
    await client.close()


async def closes_for(data, code):
    witness, client = await Client.open(ANN), await Client.open(ANN)
    try:
        await client.send_raw(data)
    except ConnectionClosed:
        pass
    found, _ = await client.closed()
    expect(found == code, f"close code {found}, not {code}")
    await witness.pong()
    await witness.close()


def ping_of_bytes(size):
    frame = json.dumps({"type": "ping", "id": "big", "pad": ""})
    return frame[:-2] + "x" * (size - len(frame)) + '"}'


async def largest_message():
    client = await Client.open(ANN)
    await client.send_raw(ping_of_bytes(MESSAGE_BYTES))
    await client.wait_for(lambda frame: frame["type"] == "pong" and frame.get("id") == "big", "pong")
    await client.close()


async def fragmented_message():
    client = await Client.open(ANN)
    await client.send_raw(['{"type":"pi', 'ng","id":"frag', 'ments"}'])
    await client.wait_for(lambda frame: frame["type"] == "pong" and frame.get("id") == "fragments", "pong")
    await client.close()


async def websocket_ping():
    client = await Client.open(ANN)
    for payload in (b"", b"are you there", b"x" * 125):
        await asyncio.wait_for(await client.socket.ping(payload), STEP_SECONDS)
    await client.close()


async def echoes_close(code):
    client = await Client.open(ANN)
    found = await client.close(code, "enough")
    expect(found == code, f"closed with {code}, answered with {found}")


CHECKS = [
    ("golden path, token in the subprotocol", lambda: golden_path("subprotocol")),
    ("golden path, token in Authorization", lambda: golden_path("authorization")),
    ("golden path, token in hello", lambda: golden_path("hello")),
    ("seq rises by one and every field of an event is there", sequence_of_events),
    ("two devices of one user see the same", two_devices),
    ("another user sees nothing of it", other_user),
    ("a device that drops mid-run and resumes has every event once", drop_and_resume),
    ("a device that had no event yet can resume", resume_without_events),
    ("no token: 4400", lambda: refused_by_close(4400)),
    ("garbage in the subprotocol: 4400", lambda: refused_by_close(4400, "garbage", "subprotocol")),
    ("garbage in hello: 4400", lambda: refused_by_close(4400, hello_token="garbage")),
    ("garbage in Authorization: 401", lambda: refused_by_status("garbage")),
    ("unsigned token: 4400", lambda: refused_by_close(4400, unsigned(ANN), "subprotocol")),
    ("unsigned token in Authorization: 401", lambda: refused_by_status(unsigned(ANN))),
    ("another token's signature: 4400", lambda: refused_by_close(4400, hello_token=with_foreign_signature(ANN, BOB))),
    ("two carriers that disagree: 4400", lambda: refused_by_close(4400, ANN, "subprotocol", hello_token=BOB)),
    ("a first frame that is no hello: 4400",
     lambda: refused_by_close(4400, ANN, "subprotocol", first={"type": "ping", "id": "early"})),
    ("not JSON: malformed", lambda: answers_error("not json", "malformed")),
    ("an array: malformed", lambda: answers_error("[1]", "malformed")),
    ("a key twice: malformed", lambda: answers_error('{"type":"ping","type":"ping"}', "malformed")),
    ("unknown type without id: error", lambda: answers_error('{"type":"no_such_type"}', "unknown_type")),
    ("unknown type with id: reply", lambda: answers_reply_error({"type": "no_such_type"}, "unknown_type")),
    ("another's user_id: identity_mismatch", lambda: answers_reply_error(
        {"type": "user_message", "thread_id": "t", "content": "hi", "user_id": "mallory"}, "identity_mismatch")),
    ("binary message: 1003", lambda: closes_for(b"\x00\x01", 1003)),
    ("message of 64 KiB is taken", largest_message),
    ("message over 64 KiB: 1009", lambda: closes_for(ping_of_bytes(MESSAGE_BYTES + 1), 1009)),
    ("message in fragments is taken", fragmented_message),
    ("WebSocket ping is answered", websocket_ping),
    ("close 1000 is echoed", lambda: echoes_close(1000)),
    ("close 1001 is echoed", lambda: echoes_close(1001)),
]


async def run_check(name, check):
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
    except asyncio.TimeoutError:
        problem = f"not done within {CHECK_SECONDS} s"
    except Failed as failed:
        problem = str(failed)
    except Exception as error:  # Whatever else goes wrong is this check's failure, not the end of the others.
        problem = f"{type(error).__name__}: {error}"
    else:
        print(f"ok      {name}", flush=True)
        return True
    print(f"FAILED  {name}: {problem}", flush=True)
    return False


async def run_checks(checks):
    """Runs them all, and answers the exit status."""
    results = [await run_check(name, check) for name, check in checks]
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) else 1


async def main():
    checks = list(CHECKS)
    if EXPIRED:
        checks.append(("expired token: 4200, in Authorization 401", refuses_expired))
    else:
        print("skipped expired token: TRUNKLINE_TOKEN_EXPIRED is not set")
    return await run_checks(checks)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
