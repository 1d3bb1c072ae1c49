"""The provider stand-in: a strict HTTP server in place of api.openai.com whose answers are known to the token."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from openai_metering.local import answers, meters, wire
from openai_metering.local.background import BackgroundServer, run_until_told
from openai_metering.local.events import STREAMED, Event, sent_usage
from openai_metering.local.exchange import Exchange
from openai_metering.local.jobs import KINDS, POLLS, SESSIONS, STORED, Jobs
from openai_metering.local.journal import Journal, Served
from openai_metering.local.numbers import response_usage, served_model
from openai_metering.local.scenarios import (
    CUT_AFTER,
    Incoming,
    Scenario,
    Wire,
    plain_body,
    stream_events,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

KEPT: Final = 20_000
"""Requests that the stand-in of a process of its own holds, for its meters."""
HELD_AFTER: Final = 2  # events
HTML: Final = b"<html><body>Bad gateway, says a proxy with status 200</body></html>"
_RETRIEVED: Final = re.compile(r"/responses/([^/]+)(/cancel)?")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class ProviderStandIn(BackgroundServer):
    """A real server on a free loopback port; enter it to start it.

    Each billable request has a number ``n``, from which its token numbers follow (`openai_metering.local.numbers`). The
    header ``x-standin-scenario`` of a request names a row of `openai_metering.local.scenarios`.

    Args:
        journal: A file to which each served request is appended as one JSON line.
        keep: How many of the last requests are held in memory, and on the meters; ``None``: all.
    """

    def __init__(self, *, journal: str | os.PathLike[str] | None = None, keep: int | None = None) -> None:
        super().__init__()
        self._journal = Journal(journal, keep=keep)
        self._numbers = itertools.count(1)
        self._requests = itertools.count(1)  # never begins again: request ids stay unique
        # Touched by the server's thread only.
        self._attempts: dict[str, int] = {}
        self._stored: OrderedDict[str, list[Any]] = OrderedDict()
        self._jobs = Jobs()
        self._held: list[asyncio.Future[None]] = []
        self._released_ahead = False
        self._in_progress = 0
        self.meters = meters.Meters(self._journal)
        """Its own word on what was used and what it costs."""

    # -- for its users
    @property
    def base_url(self) -> str:
        """What ``OpenAI(base_url=...)`` takes."""
        return f"{self.url}/v1"

    @property
    def azure_endpoint(self) -> str:
        """What ``AzureOpenAI(azure_endpoint=...)`` takes."""
        return self.url

    @property
    def served(self) -> list[Served]:
        """Every request so far, in the order of the answers."""
        return self._journal.served

    @property
    def by_request_id(self) -> dict[str, Served]:
        """Every request so far by the ``x-request-id`` of its answer."""
        return {served.request_id: served for served in self._journal.served}

    @property
    def violations(self) -> list[str]:
        """What clients sent that no client may send."""
        return self._journal.violations

    @property
    def in_progress(self) -> int:
        """How many requests have arrived and are not answered yet."""
        return self._in_progress

    def wait_served(self, count: int, timeout: float = 10.0) -> list[Served]:
        """Wait until ``count`` requests are served.

        Raises:
            TimeoutError: They are not after ``timeout`` seconds.
        """
        return self._journal.wait(count, timeout)

    def release(self) -> None:
        """Let the streams that are held go on, or the next one, if none is held yet."""
        self.on_loop(self._release)

    def recall(self, served: Iterable[Served]) -> None:
        """Take over what another one has served: it is in the journal, and on the meters."""
        for one in served:
            self._journal.add(one)

    def reset(self) -> None:
        """Forget what was served and begin with number 1 again."""
        self._journal.clear()
        self.meters.clear()
        self._numbers = itertools.count(1)
        self.on_loop(self._forget)

    def stop(self) -> None:
        """Stop the server and close the journal file."""
        super().stop()
        self._journal.close()

    # -- on the server's thread
    def _release(self) -> None:
        self._released_ahead = not self._held
        for future in self._held:
            if not future.done():
                future.set_result(None)
        self._held.clear()

    def _forget(self) -> None:
        self._attempts.clear()
        self._stored.clear()
        self._jobs.clear()
        self._released_ahead = False

    async def hold(self) -> None:
        """Wait until somebody calls `release`."""
        if self._released_ahead:
            self._released_ahead = False
            return
        future = asyncio.get_running_loop().create_future()
        self._held.append(future)
        await future

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and note it."""
        exchange = Exchange(request, await request.read(), f"req_{next(self._requests):016x}", self._journal)
        self._in_progress += 1
        try:
            return await self._answered(exchange)
        finally:
            self._in_progress -= 1
            exchange.note()

    async def _answered(self, exchange: Exchange) -> web.StreamResponse:
        violations = exchange.violations()
        if violations:
            for violation in violations:
                self._journal.add_violation(f"{exchange.request.method} {exchange.request.path}: {violation}")
            return exchange.whole(wire.error(400, "; ".join(violations), "standin_violation"), 400)
        if exchange.place.route.startswith(meters.ROUTE):
            return self.meters.answer(exchange)
        scenario = exchange.scenario
        refusal = scenario.refuse(Incoming(exchange.headers, exchange.body, exchange.payload, self._attempts))
        if refusal is not None:
            return exchange.whole(wire.error(refusal.status, refusal.text), refusal.status, dict(refusal.headers))
        kind = answers.kind_of(exchange.place.route) if exchange.request.method == "POST" else None
        if kind is None:
            return await self._free(exchange)
        return await self._billed(exchange, kind, scenario)

    async def _billed(self, exchange: Exchange, kind: str, scenario: Scenario) -> web.StreamResponse:
        exchange.n = n = next(self._numbers)
        payload = exchange.fields
        ask = wire.Ask(
            n=n,
            kind=kind,
            payload=payload,
            model=served_model(str(payload.get("model") or exchange.place.deployment or "gpt-4o")),
            chunks=int(exchange.headers.get("x-standin-chunks", wire.DEFAULT_CHUNKS)),
            text=scenario.text,
            route=exchange.place.route,
        )
        used = wire.USAGE[kind](n) if kind in wire.USAGE else answers.usage_of(ask)
        ask.usage = scenario.usage(used)
        if scenario.wire is not Wire.TIMEOUT and not exchange.place.azure:
            exchange.kind, exchange.billed = kind, used
        exchange.response_id, exchange.model = ask.response_id, ask.model
        background = kind == "responses" and bool(payload.get("background"))
        if kind == "responses":
            self._stored[ask.response_id] = [ask, scenario, POLLS if background and not exchange.stream else 0]
            if len(self._stored) > STORED:
                self._stored.popitem(last=False)
        if kind in KINDS:
            self._jobs.order(ask, answers.PLAIN[kind](ask))
        if kind in SESSIONS:
            self._jobs.speak(ask, answers.PLAIN[kind](ask))
        if scenario.wire is Wire.TIMEOUT:
            return await self._never(exchange)
        if background and not exchange.stream:
            return exchange.whole(wire.response(ask, "queued"))
        if exchange.stream and kind in STREAMED and scenario.wire is not Wire.NOT_JSON:
            return await self._streamed(exchange, stream_events(scenario, ask, STREAMED[kind]))
        raw = answers.raw(ask)
        if raw is not None:
            return exchange.raw(raw.body, raw.content_type, status=raw.status)
        return await self._plain(exchange, plain_body(scenario, ask))

    async def _free(self, exchange: Exchange) -> web.StreamResponse:
        """Answer what is not billed: a stored response, or any other path."""
        if exchange.scenario.wire is Wire.TIMEOUT:
            return await self._never(exchange)
        looked = await self._looked(exchange)
        if looked is not None:
            return looked
        found = _RETRIEVED.fullmatch(exchange.place.route)
        if found is None or (exchange.request.method == "POST") is (found[2] is None):
            return exchange.whole(wire.anything(exchange.place.route))
        exchange.response_id = found[1]
        stored = self._stored.get(found[1])
        if stored is None:
            stored = [
                wire.Ask(0, "responses", {}, served_model("gpt-4o"), usage=response_usage(0)),
                exchange.scenario,
                0,
            ]
        exchange.model = stored[0].model
        if found[2]:
            return exchange.whole(wire.response(stored[0], "cancelled") | {"id": found[1], "output": [], "usage": None})
        return await self._retrieved(exchange, stored)

    async def _looked(self, exchange: Exchange) -> web.StreamResponse | None:
        """Answer a request that looks at a job, or listens to an agent."""
        method, route = exchange.request.method, exchange.place.route
        turns = self._jobs.turns(method, route)
        if turns is not None:
            exchange.stream = True
            return await self._streamed(exchange, turns)
        look = self._jobs.look(method, route)
        if look is None:
            return None
        ask = look.ask
        exchange.response_id, exchange.model = look.body["id"], ask.model
        if exchange.stream and ask.kind in STREAMED:
            return await self._streamed(exchange, stream_events(exchange.scenario, ask, STREAMED[ask.kind]))
        return await self._plain(exchange, look.body)

    async def _retrieved(self, exchange: Exchange, stored: list[Any]) -> web.StreamResponse:
        """Answer with a stored response: history, but for the first sight of a background one."""
        ask, scenario, polls = stored
        if exchange.request.query.get("stream") == "true":
            after = int(exchange.request.query.get("starting_after", -1))
            exchange.stream = True
            return await self._streamed(exchange, stream_events(scenario, ask, STREAMED["responses"])[after + 1 :])
        if polls:
            stored[2] = polls - 1
            return exchange.whole(wire.response(ask, "in_progress"))
        return await self._plain(exchange, plain_body(scenario, ask) | {"id": exchange.response_id})

    async def _never(self, exchange: Exchange) -> web.StreamResponse:
        """Say nothing until the client leaves or the server stops."""
        if self._stopping is not None:
            await self._stopping.wait()
        return exchange.dropped(web.StreamResponse())

    async def _plain(self, exchange: Exchange, body: dict[str, Any]) -> web.StreamResponse:
        way = exchange.scenario.wire
        if way is Wire.CUT:
            encoded = _encode(body).encode()
            response = web.StreamResponse(headers=exchange.answer_headers("application/json"))
            response.content_length = len(encoded)
            exchange.status = 200
            exchange.note()
            await response.prepare(exchange.request)
            await response.write(encoded[: len(encoded) // 2])
            return exchange.dropped(response)
        if way is Wire.NOT_JSON:
            return exchange.raw(HTML, "text/html")
        if way is Wire.SLOW:
            await asyncio.sleep(exchange.pause)
        if way is Wire.HOLD:
            await self.hold()
        exchange.usage = sent_usage(body)
        if way is Wire.GZIP:
            squeezed = zlib.compress(_encode(body).encode(), wbits=31)
            return exchange.raw(squeezed, "application/json", {"content-encoding": "gzip"})
        return exchange.whole(body, kind="text/plain" if way is Wire.WRONG_CONTENT_TYPE else "application/json")

    async def _streamed(self, exchange: Exchange, events: Sequence[Event]) -> web.StreamResponse:
        way = exchange.scenario.wire
        kind = "text/plain" if way is Wire.WRONG_CONTENT_TYPE else "text/event-stream; charset=utf-8"
        response = web.StreamResponse(headers=exchange.answer_headers(kind))
        gzip = zlib.compressobj(wbits=31) if way is Wire.GZIP else None
        if gzip is not None:
            response.headers["content-encoding"] = "gzip"
        if way in {Wire.CUT, Wire.EOF}:
            events = events[:CUT_AFTER]
        exchange.status = 200
        last = len(events) - 1
        try:
            await response.prepare(exchange.request)
            for place, event in enumerate(events):
                if way is Wire.SLOW and place:
                    await asyncio.sleep(exchange.pause)
                if way is Wire.HOLD and place == HELD_AFTER:
                    await self.hold()
                encoded = event.encoded()
                if gzip is not None:
                    encoded = gzip.compress(encoded) + gzip.flush(zlib.Z_FINISH if place == last else zlib.Z_SYNC_FLUSH)
                exchange.usage = event.usage or exchange.usage
                if place == last:
                    exchange.note()  # before the client can know that it is served
                await response.write(encoded)
        except ConnectionResetError:  # the client has left: it may
            return exchange.dropped(response)
        return exchange.dropped(response) if way is Wire.CUT else response


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stand-in as a process of its own: it prints its URLs in one JSON line and ends with SIGTERM or Ctrl-C.

    Its meters know the last 20,000 requests.
    """
    parser = argparse.ArgumentParser(prog="python -m openai_metering.local.provider", description=main.__doc__)
    parser.add_argument("--journal", metavar="FILE", help="append one JSON line for each served request")
    chosen = parser.parse_args(arguments)
    provider = ProviderStandIn(journal=chosen.journal, keep=KEPT)
    run_until_told(
        provider,
        lambda: {
            "base_url": provider.base_url,
            "azure_endpoint": provider.azure_endpoint,
            "admin_key": meters.ADMIN_KEY,
        },
    )


if __name__ == "__main__":
    main()
