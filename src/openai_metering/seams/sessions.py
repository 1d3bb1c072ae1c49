"""A websocket session: what the events of its server mean for the calls in it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from openai_metering.call import Call, abandon, drain, watch
from openai_metering.finished import COMPLETED, DROPPED, FAILED, STOPPED, Request
from openai_metering.masking import mask
from openai_metering.realtime import LIVE_DECISION, TRANSCRIPTION
from openai_metering.seams.failures import qualified_name
from openai_metering.seams.received import Received
from openai_metering.seams.seen import Seen, Turns, shared
from openai_metering.seams.sending import sent, who_sent
from openai_metering.seams.waiting import Waiting
from openai_metering.seams.who import resolved
from openai_metering.usage import count, part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.finished import Server
    from openai_metering.operations import Operation
    from openai_metering.realtime import Socket
    from openai_metering.resolution import Attribution, Resolved
    from openai_metering.seams.metering import Metering
    from openai_metering.seams.sending import Opening, Sent

MAX_OPEN: Final = 256
"""Responses of one session that are open at once; the oldest of more is taken for cut off."""


class Session:
    """One connection between its opening and its end.

    Args:
        metering: what stands behind the seam.
        socket: the row of the connection's kind.
        server: where it goes.
        model: the model that ``connect()`` asked for.
        opening: who it is for.
        joined: the id of a session that somebody else has opened, where this connection only joins it.
    """

    def __init__(
        self,
        metering: Metering,
        socket: Socket,
        server: Server,
        model: str | None,
        opening: Opening,
        joined: str | None,
    ) -> None:
        self.socket = socket
        self.closing = False
        self.lost: BaseException | None = None
        """The connection broke off, and may yet be made again."""
        self.received = Received(_REACTIONS)
        self._metering = metering
        self._server = server
        self._opening = opening
        self._joined = joined
        self._lock = threading.RLock()
        self._waiting = Waiting(opening.sent, unasked=socket.unasked)
        opening.sent.clear()
        self._open: OrderedDict[str, Call] = OrderedDict()
        self._whos: OrderedDict[str, Resolved] = OrderedDict()
        self._items: OrderedDict[str, tuple[str | None, int]] = OrderedDict()
        self._token = object()
        self._turns = Turns()
        self._seen = Seen()
        if joined is not None:
            self._seen = shared((server, joined), self._seen)
        self._asked = model
        self._served: str | None = None
        self._transcription: str | None = None
        self._id: str | None = None
        self._who = resolved(metering, opening.keyword, opening.scope, opening.beneath)
        self._call = self._begin(socket.session, Request(model), self._who, parent=None)

    # -- What the client sends -----------------------------------------------------------------------------------

    def send(self, event: Any, scope: Attribution, stream_id: str | None, keyword: Attribution) -> Sent | None:
        """Note what a message will start. Returns it, so that it can be taken back."""
        if part(event, "type") == "session.start":
            model = text(part(part(event, "session"), "model"))
            self._asked = self._asked if model is None else mask(model)
            return None
        message = sent(event, scope, stream_id, keyword)
        if message is not None:
            self._waiting.add(message)
        return message

    def unsend(self, message: Sent) -> None:
        """The message was not sent after all."""
        self._waiting.remove(message)

    def broke_off(self, error: BaseException) -> None:
        """The connection broke off, and the SDK may make it again: what it had sent is answered by nobody."""
        self.lost = error
        self._waiting.clear()
        self._turns.broke_off()

    def _who_of(self, message: Sent | None, response: Any) -> Resolved:
        if message is not None:
            opening = self._opening
            keyword, scope = who_sent(opening.keyword, opening.scope, message.scope, message.keyword)
            beneath = opening.beneath
            if message.resolver is not None:
                beneath = beneath._replace(resolver=message.resolver)
            return resolved(self._metering, keyword, scope, beneath)
        # The server's own continuation of a response is for who that one was for.
        previous = text(part(response, "previous_response_id"))
        return self._who if previous is None else self._whos.get(previous, self._who)

    # -- What the server sends -----------------------------------------------------------------------------------

    def see(self, event: Any) -> None:
        """Read one event; most say nothing for the bill and cost a look-up."""
        kind = part(event, "type")
        react = _REACTIONS.get(kind) if type(kind) is str else None
        if react is not None and self._metering.active:
            self.lost = None
            react(self, event)

    def _configured(self, event: Any) -> None:
        session = part(event, "session")
        self._served = text(part(session, "model")) or self._served
        recognition = part(part(part(session, "audio"), "input"), "transcription")
        if recognition is None:
            recognition = part(session, "input_audio_transcription")
        self._transcription = text(part(recognition, "model")) or self._transcription

    def _running(self, event: Any) -> None:
        """A live session has started: from here on its time is billed."""
        self._configured(event)
        running = self.socket.running
        if running is None or self._joined is not None:
            return
        started = text(part(part(event, "session"), "id"))
        if self._id is not None and started is not None and started != self._id:
            # A connection made again that started another session: its seconds begin at zero.
            self._cut_session("session_replaced")
            self._seen = Seen()
            self._call = self._begin(self.socket.session, Request(self._asked), self._who, parent=None)
        self._id = started
        if started is not None:
            self._seen = shared((self._server, started), self._seen)
        self._seen.owner = self._token
        self._bill(running)

    def _bill(self, running: Operation) -> None:
        call = self._call
        if call is not None:
            call.operation = running
            call.request = Request(self._asked)
            call.answer.model = self._served
            call.answer.response_id = self._id or self._joined

    def _metered(self) -> Call | None:
        """The session's call where this connection is the one that reports its time."""
        call, running = self._call, self.socket.running
        if call is None or running is None:
            return None
        if self._seen.owner is None:
            self._seen.owner = self._token
        if self._seen.owner is not self._token:
            return None
        if not call.operation.billed:
            self._bill(running)
        return call

    def _elapsed(self, event: Any) -> None:
        call = self._metered()
        if call is not None:
            call.observe(event)

    def _session_closed(self, event: Any) -> None:
        call = self._metered() if self.socket.running is not None else self._call
        if call is not None and call.open and call.operation.billed:
            model = text(part(part(event, "session"), "model"))
            call.answer.model = model or call.answer.model
            call.read(event)
            call.finish(COMPLETED, reason="not_sent")

    def _response_created(self, event: Any, event_id: str | None = None) -> None:
        response = part(event, "response")
        key = text(part(response, "id"))
        if key is None:
            return
        evicted = None
        with self._lock:
            asked = self._waiting.asking(event, response) is not None
            turn = self._turns.begin(key, event_id or text(part(event, "event_id")), asked=asked)
            if turn is None or not self._seen.add((key, turn)):
                return
            call = self._response(event, response)
            if call is None:
                return
            call.answer.unfinished = True
            call.answer.response_id = key
            if len(self._open) >= MAX_OPEN:
                _, evicted = self._open.popitem(last=False)
            self._open[key] = call
        if evicted is not None:
            evicted.finish(FAILED, reason="cut", error_type="response_cut")

    def _response(self, event: Any, response: Any) -> Call | None:
        message = self._waiting.starter(event, response)
        who = self._who_of(message, response)
        key = text(part(response, "id"))
        if key is not None:
            self._whos[key] = who
            if len(self._whos) > MAX_OPEN:
                self._whos.popitem(last=False)
        request = Request() if message is None else message.request
        if request.model is None and self.socket.running is None:
            request = request._replace(model=self._asked or self._served)
        call = self._begin(self.socket.response, request, who)
        if call is not None:
            call.answer.model = text(part(response, "model")) or (None if self.socket.running else self._served)
        return call

    def _response_ended(self, event: Any) -> None:
        response = part(event, "response")
        response_id = text(part(response, "id"))
        with self._lock:
            call = None
            key: Any = text(part(event, "event_id"))
            if response_id is not None:
                call = self._open.pop(response_id, None)
                key = response_id, self._turns.end(response_id)
            if call is None:
                if key is not None and not self._seen.add(key):
                    return
                call = self._response(event, response)
        if call is not None:
            call.read(response)
            call.answer.finished = True
            call.answer.deferred = False
            call.complete()

    def _delegated(self, event: Any) -> None:
        """An event of a response that a live session had made; the nested event is as the provider sent it."""
        nested = part(event, "event")
        kind = part(nested, "type")
        if kind == "response.created":
            self._response_created(nested, text(part(event, "event_id")))
        elif kind in _ENDS:
            self._response_ended(nested)

    def _decided(self, event: Any) -> None:
        nested = part(event, "event")
        key = text(part(event, "event_id"))
        if part(nested, "type") != "decision.completed" or (key is not None and not self._seen.add(key)):
            return
        message = None
        if part(event, "trigger_id") is None and part(event, "delegation_id") is None:
            message = self._waiting.decided()
        decision = part(nested, "decision")
        self._at_once(LIVE_DECISION, Request(text(part(decision, "model"))), self._who_of(message, None), decision)

    def _committed(self, event: Any) -> None:
        item = text(part(event, "item_id"))
        if item is not None:
            # The model of this moment: the session may have another one before the transcript is there.
            self._items[item] = (self._transcription, time.time_ns())
            if len(self._items) > MAX_OPEN:
                self._items.popitem(last=False)

    def _transcribed(self, event: Any) -> None:
        item = text(part(event, "item_id"))
        key = (item, count(part(event, "content_index"))) if item is not None else text(part(event, "event_id"))
        if key is not None and not self._seen.add(key):
            return
        model, started = self._items.get(item or "", (self._transcription, None))
        self._at_once(TRANSCRIPTION, Request(model), self._who, event, started)

    def _at_once(
        self, operation: Operation, request: Request, who: Resolved, body: Any, started: int | None = None
    ) -> None:
        """A consumption that is known when it is over."""
        call = self._begin(operation, request, who, started=started)
        if call is not None:
            call.answer.model = request.model
            call.read(body)
            call.complete()

    def _refused(self, event: Any) -> None:
        self._waiting.refused(event)

    # -- Calls ---------------------------------------------------------------------------------------------------

    def _begin(self, operation: Operation, request: Request, who: Resolved, **kwargs: Any) -> Call | None:
        signals = self._metering.signals
        if signals is None or not signals.listening():
            return None
        drain()
        if "parent" not in kwargs:
            kwargs["parent"] = None if self._call is None else self._call.span
        call = Call(signals, operation, self._server, request, who, **kwargs)
        call.first_chunk = call.started  # what is dropped has been read: the caller saw the event that began it
        watch(call)
        return call

    # -- How it ends ---------------------------------------------------------------------------------------------

    def closed(self) -> None:
        """The caller closed the connection; what had not ended by then says no more."""
        if self.lost is not None:
            self.cut(self.lost)
            return
        for response in self._taken():
            response.stop(STOPPED)
        call = self._call
        if call is not None:
            if self._tells_nothing(call):
                call.finish(COMPLETED, reason="not_sent")
            else:
                call.stop(STOPPED)
                self._disown(call)

    def cut(self, error: BaseException) -> None:
        """The connection ended, and not by the caller."""
        error_type = qualified_name(type(error))
        for response in self._taken():
            response.finish(FAILED, reason="cut", error_type=error_type)
        call = self._call
        if call is None:
            return
        if not self._tells_nothing(call):
            self._cut_session(error_type)
        elif "ConnectionClosedOK" in (ancestor.__name__ for ancestor in type(error).__mro__):
            call.finish(COMPLETED, reason="not_sent")
        else:
            call.finish(FAILED, reason="not_sent", error_type=error_type)

    def _cut_session(self, error_type: str) -> None:
        if self._call is not None:
            self._call.finish(FAILED, reason="cut", error_type=error_type)
            self._disown(self._call)

    def _disown(self, call: Call) -> None:
        """Leave the session's time to another connection to it, where this one did not hear its end."""
        if call.answer.counts is None and self._seen.owner is self._token:
            self._seen.owner = None

    def _tells_nothing(self, call: Call) -> bool:
        """Whether no end of this session would say what it cost."""
        return call.operation is self.socket.session

    def _taken(self) -> list[Call]:
        with self._lock:
            calls = list(self._open.values())
            self._open.clear()
        return calls

    def __del__(self) -> None:
        try:
            for call in (*self._open.values(), self._call):
                if call is not None:
                    abandon(call, DROPPED)
            if self._call is not None:
                self._disown(self._call)
        except Exception:  # noqa: S110 - a finaliser has nobody to tell, and the modules may be gone already
            pass


_ENDS: Final = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)

# What the kinds of events mean; none of the others says anything for the bill.
_REACTIONS: Final[dict[Any, Callable[[Session, Any], None]]] = {
    "session.created": Session._configured,  # noqa: SLF001
    "session.updated": Session._configured,  # noqa: SLF001
    "transcription_session.created": Session._configured,  # noqa: SLF001
    "transcription_session.updated": Session._configured,  # noqa: SLF001
    "session.started": Session._running,  # noqa: SLF001
    "session.usage.updated": Session._elapsed,  # noqa: SLF001
    "session.closed": Session._session_closed,  # noqa: SLF001
    "response.created": Session._response_created,  # noqa: SLF001
    **dict.fromkeys(_ENDS, Session._response_ended),  # noqa: SLF001
    "response.event": Session._delegated,  # noqa: SLF001
    "decision.event": Session._decided,  # noqa: SLF001
    "input_audio_buffer.committed": Session._committed,  # noqa: SLF001
    "conversation.item.input_audio_transcription.completed": Session._transcribed,  # noqa: SLF001
    "conversation.item.input_audio_transcription.failed": Session._transcribed,  # noqa: SLF001
    "error": Session._refused,  # noqa: SLF001
}
