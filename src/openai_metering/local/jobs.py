"""Work of the provider stand-in that goes on after its call: in progress at first, ended after some looks at it."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering.local import answers, wire
from openai_metering.local.events import turns
from openai_metering.local.numbers import response_usage, run_usage

if TYPE_CHECKING:
    from openai_metering.local.events import Event
    from openai_metering.local.wire import Ask

POLLS: Final = 2  # looks at a job before it has ended
STORED: Final = 1000  # jobs that can be looked at
TOOK: Final = 60  # seconds

_LOOKS: Final = re.compile(
    r"/(?:batches|videos|fine_tuning/jobs|evals/[^/]+/runs|threads/[^/]+/runs)/([^/]+)"
    r"(?:/(cancel|pause|resume|submit_tool_outputs))?"
)


def _ended(kind: str, n: int) -> dict[str, Any]:
    """What a job says of itself once it has ended, in the numbers of its request."""
    usage = response_usage(n)
    done = wire.CREATED + TOOK
    by_kind: dict[str, dict[str, Any]] = {
        "videos": {"status": "completed", "completed_at": done, "progress": 100},
        "batches": {
            "status": "completed",
            "completed_at": done,
            "usage": usage,
            "request_counts": {"total": n + 1, "completed": n, "failed": 1},
        },
        "trainings": {"status": "succeeded", "finished_at": done, "trained_tokens": 5000 + n},
        "evals": {
            "status": "completed",
            "per_model_usage": [
                {
                    "model_name": name,
                    "run_model_name": name,
                    "invocation_count": n,
                    "prompt_tokens": 100 + n,
                    "completion_tokens": 10 + n,
                    "cached_tokens": n % 5,
                    "total_tokens": 110 + 2 * n,
                }
                for name in ("gpt-4o", "gpt-4.1")
            ],
        },
        "runs": {"status": "completed", "completed_at": done, "usage": run_usage(n)},
    }
    return by_kind[kind]


KINDS: Final = frozenset({"videos", "batches", "trainings", "evals", "runs"})
SESSIONS: Final = frozenset({"agents", "inputs", "invocations"})
_SESSION: Final = re.compile(r"/agents/sessions/([^/]+)/events")


class Look(NamedTuple):
    """What a request that looks at a job is answered with."""

    ask: Ask
    body: dict[str, Any]
    action: str | None


class Jobs:
    """The jobs that were ordered, each with the looks that it still takes until it has ended."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, list[Any]] = OrderedDict()
        self._turns: OrderedDict[str, list[Ask]] = OrderedDict()

    def clear(self) -> None:
        """Forget all of them."""
        self._stored.clear()
        self._turns.clear()

    def order(self, ask: Ask, body: dict[str, Any]) -> None:
        """Keep a job that has only begun."""
        self._stored[body["id"]] = [ask, POLLS]
        if len(self._stored) > STORED:
            self._stored.popitem(last=False)

    def speak(self, ask: Ask, body: dict[str, Any]) -> None:
        """Begin a turn of an agent's session."""
        found = _SESSION.fullmatch(ask.route)
        session_id = found[1] if found else body.get("session_id") or body["id"]
        self._turns.setdefault(session_id, []).append(replace(ask, usage=response_usage(ask.n)))
        if len(self._turns) > STORED:
            self._turns.popitem(last=False)

    def turns(self, method: str, route: str) -> list[Event] | None:
        """What a session tells who listens to it; None for any other request."""
        found = _SESSION.fullmatch(route)
        return turns(self._turns.get(found[1], ()), found[1]) if found and method == "GET" else None

    def look(self, method: str, route: str) -> Look | None:
        """Answer a request that looks at a job; None for any other, or where nobody ordered the job."""
        found = _LOOKS.fullmatch(route)
        if found is None or method == ("POST" if found[2] is None else "GET") or found[1] not in self._stored:
            return None
        stored = self._stored[found[1]]
        ask, polls = stored
        body = answers.PLAIN[ask.kind](ask)
        if found[2] == "cancel":
            stored[1] = 0
            status = "canceled" if ask.kind == "evals" else "cancelled"
            return Look(ask, {**body, "status": status, "cancelled_at": wire.CREATED + TOOK}, found[2])
        if polls and found[2] is None:
            stored[1] = polls - 1
        if polls:
            return Look(ask, {**body, "status": "in_progress"}, found[2])
        return Look(ask, {**body, **_ended(ask.kind, ask.n)}, found[2])
