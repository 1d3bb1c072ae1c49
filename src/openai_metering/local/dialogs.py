"""What a provider says over websockets: realtime, responses and live sessions whose usage is known to the token."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openai_metering.local.numbers import response_usage, served_model
from openai_metering.local.socket_numbers import realtime_usage, transcription_usage

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    Event = dict[str, Any]

LIVE_STEP: Final = 2.5
"""Seconds that a live session bills for each piece of audio."""


@dataclass
class Served:
    """What was billed: kind, id, model and the usage that was sent."""

    kind: str
    id: str
    model: str | None
    usage: Any


@dataclass
class Connection:
    """One open connection and what it knows of its session."""

    socket: ServerConnection
    model: str
    session_id: str
    repeats: bool = False
    held: list[Event] = field(default_factory=list)
    transcription: str = "gpt-4o-transcribe"
    seconds: float = 0.0

    async def send(self, **event: Any) -> None:
        """Send one event, twice where the scenario says so."""
        data = json.dumps(event)
        for _ in range(2 if self.repeats else 1):
            await self.socket.send(data)


class Dialogs:
    """The provider's side of every kind of session, message by message."""

    def __init__(self) -> None:
        self.served: list[Served] = []
        self.plan: list[str] = []
        """Scenarios of the next requests that name none themselves."""
        self._numbers = itertools.count(1)
        self._last: list[Event] = []
        """What is said again to a client whose connection broke off."""

    def _scenario(self, metadata: Event) -> str:
        return metadata.get("scenario") or (self.plan.pop(0) if self.plan else "")

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers)}"

    def _serve_one(self, kind: str, identity: str, model: str | None, usage: Any) -> Any:
        self.served.append(Served(kind, identity, model, usage))
        return usage

    # -- Realtime ------------------------------------------------------------------------------------------------

    async def _realtime(self, connection: Connection, event: Event) -> None:
        kind = event["type"]
        if kind == "session.update":
            audio = event["session"].get("audio") or {}
            recognition = (audio.get("input") or {}).get("transcription") or event["session"].get(
                "input_audio_transcription"
            )
            connection.transcription = (recognition or {}).get("model", connection.transcription)
            await connection.send(type="session.updated", event_id=self._id("event"), session=session_of(connection))
        elif kind == "input_audio_buffer.commit":
            await self._transcribe(connection)
        elif kind == "input_audio_buffer.append" and event["audio"] == "end-of-speech":
            await self._transcribe(connection)
            await self._respond(connection, {}, {})
        elif kind == "response.create":
            body = event.get("response") or {}
            await self._respond(connection, event, body.get("metadata") or {})

    async def _transcribe(self, connection: Connection) -> None:
        item = self._id("item")
        model = connection.transcription
        await connection.send(type="input_audio_buffer.committed", event_id=self._id("event"), item_id=item)
        usage = self._serve_one("transcription", item, model, transcription_usage(next(self._numbers), model))
        await connection.send(
            type="conversation.item.input_audio_transcription.completed",
            event_id=self._id("event"),
            item_id=item,
            content_index=0,
            transcript="hello",
            usage=usage,
        )

    async def _respond(self, connection: Connection, event: Event, metadata: Event) -> None:
        """Answer one `response.create`, or the end of speech, as the scenario says."""
        scenario = self._scenario(metadata)
        if scenario == "refused":
            error = {"type": "invalid_request_error", "code": "bad", "message": "no", "event_id": event.get("event_id")}
            await connection.send(type="error", event_id=self._id("event"), error=error)
            return
        if scenario == "vanish":
            await self._leave(connection, "cut")
            return
        connection.repeats = scenario in ("repeat", "same")
        response = self._response(metadata or None, scenario)
        await connection.send(type="response.created", event_id=self._id("event"), response=response)
        if await self._breaks(connection, response, scenario):
            return
        for _ in range(int(metadata.get("deltas", 2))):
            await connection.send(
                type="response.output_audio.delta",
                event_id=self._id("event"),
                response_id=response["id"],
                item_id="item_0",
                output_index=0,
                content_index=0,
                delta="AAAA",
            )
        await self._finish(connection, response, scenario)
        while connection.held:
            await self._finish(connection, connection.held.pop(), "")
        connection.repeats = False
        if scenario == "reconnect":
            await self._leave(connection, "cut")

    def _response(self, metadata: Event | None, scenario: str) -> Event:
        return {
            "object": "realtime.response",
            "id": "resp_same" if scenario == "same" else self._id("resp"),
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "metadata": metadata,
            "usage": None,
        }

    async def _finish(self, connection: Connection, response: Event, scenario: str) -> None:
        status = scenario if scenario in ("failed", "cancelled", "incomplete") else "completed"
        details = {"type": status, "error": {"type": "server_error", "code": "boom"}, "reason": "turn_detected"}
        usage = None if scenario == "silent" else realtime_usage(next(self._numbers))
        self._serve_one("response", response["id"], connection.model, usage)
        output = []
        if scenario == "tools":
            output = [{"type": "function_call", "id": "item_1", "name": "f", "call_id": "call_1", "arguments": "{}"}]
        done = {**response, "status": status, "status_details": details, "output": output, "usage": usage}
        event = {"type": "response.done", "event_id": self._id("event"), "response": done}
        if scenario == "reconnect":
            begun = {"type": "response.created", "event_id": self._id("event"), "response": response}
            self._last = [begun, {**event, "event_id": self._id("event")}]
        await connection.send(**event)

    async def _breaks(self, connection: Connection, response: Event, scenario: str) -> bool:
        """Whether a response that has begun goes on later, or never."""
        if scenario == "hold":
            connection.held.append(response)
        elif scenario in ("cut", "bye"):
            await self._leave(connection, scenario)
        return scenario in ("hold", "cut", "bye")

    async def _leave(self, connection: Connection, how: str) -> None:
        if how == "bye":
            await connection.socket.close()
        else:
            await connection.socket.close(1011, "broken")

    async def _translations(self, connection: Connection, event: Event) -> None:
        if event["type"] == "session.close":
            await connection.send(type="session.closed", event_id=self._id("event"))

    # -- Responses -----------------------------------------------------------------------------------------------

    async def _responses(self, connection: Connection, event: Event) -> None:
        if event["type"] != "response.create":
            return
        metadata = event.get("metadata") or {}
        lane = {"stream_id": event["stream_id"]} if "stream_id" in event else {}
        scenario = self._scenario(metadata)
        if scenario == "refused":
            error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "no"}
            await connection.send(type="error", status=400, error=error, **lane)
            return
        if scenario == "vanish":
            await self._leave(connection, "cut")
            return
        connection.repeats = scenario in ("repeat", "same")
        response = self._responses_object({**event, "metadata": {}} if scenario == "mute" else event)
        if scenario == "same":
            response["id"] = "resp_same"
        numbers = itertools.count()
        await connection.send(type="response.created", sequence_number=next(numbers), response=response, **lane)
        if await self._breaks(connection, {**response, **lane}, scenario):
            return
        for _ in range(int(metadata.get("deltas", 2))):
            await connection.send(
                type="response.output_text.delta",
                sequence_number=next(numbers),
                item_id="msg_1",
                output_index=0,
                content_index=0,
                delta="word ",
                logprobs=[],
                **lane,
            )
        await self._complete(connection, response, scenario, lane)
        while connection.held:
            held = connection.held.pop()
            await self._complete(connection, held, "", {k: held[k] for k in ("stream_id",) if k in held})
        if scenario == "steered":
            following = {**self._responses_object(event), "previous_response_id": response["id"]}
            await connection.send(type="response.created", sequence_number=0, response=following, **lane)
            await self._complete(connection, following, "", lane)
        connection.repeats = False
        if scenario == "reconnect":
            await self._leave(connection, "cut")

    def _responses_object(self, event: Event) -> Event:
        return {
            "object": "response",
            "id": self._id("resp"),
            "created_at": 1,
            "status": "in_progress",
            "model": served_model(event.get("model") or "gpt-5"),
            "previous_response_id": event.get("previous_response_id"),
            "metadata": event.get("metadata") or {},
            "service_tier": "default",
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }

    async def _complete(self, connection: Connection, response: Event, scenario: str, lane: Event) -> None:
        usage = None if scenario == "silent" else response_usage(next(self._numbers))
        self._serve_one("response", response["id"], response["model"], usage)
        status = scenario if scenario in ("failed", "incomplete") else "completed"
        done = {**response, "status": status, "usage": usage, "error": {"code": "boom", "message": "boom"}}
        event = {"type": f"response.{status}", "sequence_number": 9, "response": done, **lane}
        if scenario == "reconnect":
            self._last = [{"type": "response.created", "sequence_number": 0, "response": response, **lane}, event]
        await connection.send(**event)

    # -- Live ----------------------------------------------------------------------------------------------------

    async def _live(self, connection: Connection, event: Event) -> None:
        kind = event["type"]
        if kind == "session.start":
            connection.model = (event.get("session") or {}).get("model", "gpt-live-1")
            await connection.send(type="session.started", event_id=self._id("event"), session=session_of(connection))
        elif kind == "session.input_audio.append":
            if event["audio"] == "cut":
                await self._leave(connection, "cut")
                return
            connection.seconds += LIVE_STEP
            usage = {"seconds": connection.seconds}
            await connection.send(type="session.usage.updated", event_id=self._id("event"), usage=usage)
        elif kind == "response.create":
            response = self._responses_object({})
            for nested in ("response.created", "response.completed"):
                if nested == "response.completed":
                    usage = self._serve_one(
                        "delegated", response["id"], response["model"], response_usage(next(self._numbers))
                    )
                    response = {**response, "status": "completed", "usage": usage}
                await connection.send(
                    type="response.event",
                    event_id=self._id("event"),
                    event={"type": nested, "sequence_number": 0, "response": response},
                )
        elif kind == "decision.create":
            event_id = self._id("event")
            usage = self._serve_one("decision", event_id, "gpt-decision", response_usage(next(self._numbers)))
            decision = {"model": "gpt-decision", "answers": [], "usage": usage}
            nested_event = {"type": "decision.completed", "decision": decision}
            await connection.send(type="decision.event", event_id=event_id, event=nested_event)
        elif kind == "session.close":
            usage = {"seconds": connection.seconds + 1, "active_seconds": 3, "paused_seconds": 1}
            self._serve_one("live", connection.session_id, connection.model, usage)
            await connection.send(
                type="session.closed",
                event_id=self._id("event"),
                reason="close_requested",
                session=session_of(connection),
                usage=usage,
            )


def session_of(connection: Connection) -> Event:
    """The session as the provider describes it."""
    recognition = {"model": connection.transcription}
    return {
        "id": connection.session_id,
        "object": "realtime.session",
        "type": "realtime",
        "model": connection.model,
        "audio": {"input": {"transcription": recognition}},
        "input_audio_transcription": recognition,
    }
