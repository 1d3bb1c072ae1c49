"""The parts of a metered call that stand alone, and what importing and installing cost."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
LOOPS = 2000

_INSTRUMENT = "from openai_metering import OpenAIInstrumentor; OpenAIInstrumentor().instrument()"
_PROVIDERS = "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.sdk._logs"
# What is timed, what has happened before, and what is timed itself.
_STARTS = (
    ("import openai, for comparison", "", "import openai"),
    ("import openai_metering, instrument(); openai never imported", "", _INSTRUMENT),
    ("the same, OpenTelemetry's SDK imported before", _PROVIDERS, _INSTRUMENT),
    ("the same, openai imported before", f"{_PROVIDERS}; import openai", _INSTRUMENT),
    ("import openai after instrument()", f"{_PROVIDERS}; {_INSTRUMENT}", "import openai"),
)


def measure(rounds: int) -> list[tuple[str, str, float, float]]:
    """Return rows of title, unit, minimum and median."""
    return [*_starting(max(2, rounds // 4)), *_alone()]


def _starting(rounds: int) -> list[tuple[str, str, float, float]]:
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        taken.setdefault("import openai_metering, by -X importtime", []).append(_importtime())
        for title, before, timed in _STARTS:
            program = f"{before}\nimport time\nstart = time.process_time()\n{timed}\nprint(time.process_time() - start)"
            taken.setdefault(title, []).append(float(_python("-c", program).stdout) * 1e3)
    return [(title, "ms", min(values), statistics.median(values)) for title, values in taken.items()]


def _importtime() -> float:
    lines = _python("-X", "importtime", "-c", "import openai_metering").stderr.splitlines()
    found = re.search(
        r"\| +(\d+) \| openai_metering$", next(line for line in lines if line.endswith("| openai_metering"))
    )
    if found is None:
        raise RuntimeError("-X importtime does not name openai_metering")
    return int(found[1]) / 1e3


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, env=compiled)


def _alone() -> list[tuple[str, str, float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        parts = _parts(folder)
        taken: dict[str, list[float]] = {title: [] for title in parts}
        for _ in range(ROUNDS):
            for title, part in parts.items():
                start = time.thread_time()
                for _ in range(LOOPS):
                    part()
                taken[title].append((time.thread_time() - start) / LOOPS * 1e6)
    return [(title, "us", min(values), statistics.median(values)) for title, values in taken.items()]


def _parts(folder: str) -> dict[str, Callable[[], object]]:
    import openai

    from openai_metering import attribution, bind
    from openai_metering.call import Call
    from openai_metering.finished import Request, Server
    from openai_metering.keys import KeyMap
    from openai_metering.ledger import Ledger
    from openai_metering.operations import CHAT_COMPLETIONS
    from openai_metering.resolution import EMPTY, Attribution, resolve
    from openai_metering.seams import carrier
    from openai_metering.seams.metering import Metering
    from openai_metering.seams.who import who_of
    from openai_metering.settings import Settings
    from openai_metering.signals import Signals

    keyword = {"subscriber_credential": "key1-hubspot"}
    who = resolve(Attribution("AcmeSoft", "joe@acme.com", "key1-hubspot"), EMPTY, EMPTY)
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1310, "completion_tokens": 164},
    }

    def scope() -> None:
        with attribution(organization_id="AcmeSoft", subscriber_identity="joe@acme.com"):
            pass

    client = openai.OpenAI(api_key="key")
    bound = bind(client, organization_id="AcmeSoft")
    metering = Metering(None, None, EMPTY)
    mapped = Metering(None, None, EMPTY, key_map=KeyMap({}, "secret", name_unmapped=True))
    around = Attribution("AcmeSoft", tags=(("team", "blue"),))

    def scope_and_keyword() -> None:
        stamped = carrier.carrier_class()(Attribution.from_mapping(keyword), around)
        who_of(metering, client, {carrier.KEY: stamped})

    def call_of(signals: Signals) -> Callable[[], object]:
        def call() -> None:
            one = Call(signals, CHAT_COMPLETIONS, Server("openai", "api.openai.com", 443), Request("gpt-4o"), who)
            one.read(body)
            one.complete()

        return call

    record = {"timeUnixNano": "1735689600000000000", "eventName": "openai_metering.usage"}
    attributes = {f"gen_ai.attribute.{n}": "a value of length 25 here" for n in range(25)}
    ledger = Ledger(folder, {"service.name": "benchmark"}, ("openai_metering", "0"), "")
    return {
        "attribution scope, entered and left": scope,
        "usage_metadata keyword, read": lambda: Attribution.from_mapping(keyword),
        "who, resolved where nobody is said": lambda: who_of(metering, client, None),
        "who, resolved from a scope and a keyword, both read": scope_and_keyword,
        "who, resolved from a bound client": lambda: who_of(metering, bound, None),
        "who, resolved by the key map": lambda: who_of(mapped, client, None),
        "call without SDK, no signal": call_of(Signals(Settings(records="none"))),
        "call without SDK, record to the ledger": call_of(Signals(Settings(ledger_dir=folder))),
        "ledger append of a ready record": lambda: ledger.append(record, attributes),
        **_websocket(folder),
    }


def _websocket(folder: str) -> dict[str, Callable[[], object]]:
    """What the events of a websocket session cost: the SDK's own ``parse_event``, and what is added to it."""
    from openai.resources.realtime.realtime import RealtimeConnection

    from openai_metering.finished import Server
    from openai_metering.realtime import socket_of
    from openai_metering.resolution import EMPTY
    from openai_metering.seams.metering import Metering
    from openai_metering.seams.methods import ATTRIBUTE, WRAPPERS
    from openai_metering.seams.sending import Opening
    from openai_metering.seams.sessions import Session
    from openai_metering.settings import Settings
    from openai_metering.signals import Signals

    settings = Settings(ledger_dir=folder)
    metering = Metering(settings, Signals(settings), EMPTY)
    server = Server("openai", "api.openai.com", 443)
    session = Session(metering, socket_of("realtime"), server, "gpt-realtime", Opening(), None)
    connection = RealtimeConnection.__new__(RealtimeConnection)  # parses, and is connected to nothing
    vars(connection)[ATTRIBUTE] = session
    bare, metered = RealtimeConnection.parse_event, WRAPPERS["parse_event"](RealtimeConnection.parse_event)
    ids = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    silent = json.dumps({"type": "response.output_audio.delta", "event_id": "event_1", **ids, "delta": "AAAA"})
    event = bare(connection, silent)
    numbers = itertools.count()
    usage = {"input_tokens": 1310, "output_tokens": 164, "total_tokens": 1474}

    def response() -> None:
        begun = {"id": f"resp_{next(numbers)}", "status": "in_progress"}
        session.see({"type": "response.created", "response": begun})
        session.see({"type": "response.done", "response": {**begun, "status": "completed", "usage": usage}})

    return {
        "websocket event, parse_event of the bare SDK": lambda: bare(connection, silent),
        "websocket event, parse_event metered": lambda: metered(connection, silent),
        "websocket event that says nothing for the bill, what is added": lambda: session.see(event),
        "websocket response without SDK, begun and ended, record to the ledger": response,
    }
