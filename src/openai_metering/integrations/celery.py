"""For Celery: a task is for whom the caller's scope named, carried in the message, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.integrations.asking import ask
from openai_metering.resolution import EMPTY, Attribution
from openai_metering.scope import attribution, current_attribution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openai_metering.integrations.asking import Who

HEADER: Final = "openai_metering_attribution"
_SCOPE: Final = "_openai_metering_scope"
_LEVELS: Final = ("organization_id", "subscriber_identity", "subscriber_credential")
MAX_LENGTH: Final = 32_768
"""Characters of a header that are looked at: more than the largest attribution needs."""


def carry_attribution(secret: str | Sequence[str] = (), *, trust_broker: bool = False, who: Who | None = None) -> None:
    """Have the tasks of this process, sent or worked on, carry who they are for.

    Call it once where the application is made, which the sender and the worker both import. It is in force for every
    Celery application of the process. A task that is retried, or that sends further ones, hands on what it got.

    Args:
        secret: signs what is sent, with the task's id and name; the worker believes nothing else. Of several the first
            signs, and all are believed: so a secret can be replaced without losing a task.
        trust_broker: believe what is not signed: for brokers that nobody else can write to.
        who: asked in the worker, with the task (``task.request`` is its request), where the message says nothing that
            is believed. Its errors are logged once, and the task goes on unattributed.

    Raises:
        ValueError: neither a secret nor trust nor a function is given, or a secret is empty.
    """
    secrets = (secret,) if isinstance(secret, str) else tuple(secret)
    if not all(secrets):
        raise ValueError("A secret of carry_attribution is empty: give the text that senders and workers share.")
    if not secrets and not trust_broker and who is None:
        raise ValueError(
            "carry_attribution needs secret=, which senders and workers share, or trust_broker=True where nobody else "
            "can write to the broker, or who=, a function that the worker asks."
        )
    from celery import signals  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - only who calls this has it

    carried = _Carried(tuple(one.encode() for one in secrets), trust_broker=trust_broker, who=who)
    for signal, receiver in (
        (signals.before_task_publish, carried.send),
        (signals.task_prerun, carried.enter),
        (signals.task_postrun, carried.leave),
    ):
        signal.disconnect(dispatch_uid=HEADER)  # a second call replaces the first
        signal.connect(receiver, weak=False, dispatch_uid=HEADER)


class _Carried:
    """What Celery calls when a task is sent, begins and ends."""

    def __init__(self, secrets: tuple[bytes, ...], *, trust_broker: bool, who: Who | None) -> None:
        self.secrets = secrets
        self.trust_broker = trust_broker
        self.who = who

    def send(self, sender: Any = None, headers: Any = None, body: Any = None, **_: object) -> None:
        """Put who the task is for into its message's headers."""
        try:
            if not isinstance(headers, dict):
                return
            headers.pop(HEADER, None)  # a task that is sent again comes with what it got
            if isinstance(headers.get("headers"), dict):
                headers["headers"].pop(HEADER, None)
            values = current_attribution()
            if values == EMPTY or not (self.secrets or self.trust_broker):
                return
            text = _written(values)
            task = headers.get("id") or (body.get("id") if isinstance(body, Mapping) else None)
            signature = _signature(self.secrets[0], task, sender, text) if self.secrets else ""
            headers[HEADER] = f"{signature}:{text}"
        except Exception as error:
            errors.swallow("celery", error)

    def enter(self, task_id: Any = None, task: Any = None, **_: object) -> None:
        """Enter the scope of the task's message, before the task runs and in its own thread."""
        try:
            values = self._read(task_id, task)
            if values == EMPTY and self.who is not None:
                values = ask(self.who, task)
            if values != EMPTY:
                scope = attribution(values)
                setattr(task.request, _SCOPE, scope)
                scope.__enter__()
        except Exception as error:
            errors.swallow("celery", error)

    def leave(self, task: Any = None, **_: object) -> None:
        """Leave the task's scope, however the task ended."""
        try:
            scope = vars(task.request).pop(_SCOPE, None)
            if scope is not None:
                scope.__exit__(None, None, None)
        except Exception as error:
            errors.swallow("celery", error)

    def _read(self, task_id: Any, task: Any) -> Attribution:
        """Who the message says the task is for, empty where it does not or is not believed."""
        request = task.request
        header = getattr(request, HEADER, None) or (getattr(request, "headers", None) or {}).get(HEADER)
        if header is None or request.is_eager:  # an eager task is in its caller's scope already
            return EMPTY
        if isinstance(header, str) and len(header) <= MAX_LENGTH:
            signature, _, text = header.partition(":")
            given = signature.encode("utf-8", "replace")
            signed = any(
                hmac.compare_digest(given, _signature(secret, task_id, task.name, text).encode())
                for secret in self.secrets
            )
            if signed or self.trust_broker:
                return Attribution.from_mapping(json.loads(text))
        errors.warn_once(
            "celery.signature",
            "A Celery message says who its task is for, and is not signed with a secret that is known here: such tasks "
            "go on unattributed. Give sender and worker the same secret.",
        )
        errors.count("celery.signature")
        return EMPTY


def _written(values: Attribution) -> str:
    pairs = {name: getattr(values, name) for name in _LEVELS if getattr(values, name) is not None}
    return json.dumps({**dict(values.tags), **pairs}, separators=(",", ":"))


def _signature(secret: bytes, task_id: object, name: object, text: str) -> str:
    """HMAC-SHA256 over one task and who it is for: what was signed for one task is of no use for another."""
    signed = json.dumps([str(task_id), str(name), text])
    return hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest()
