"""The metrics of a call: the convention's duration and token counters, and our own count of calls."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from openai_metering import errors
from openai_metering.finished import TOLD
from openai_metering.signals import conventions as c
from openai_metering.signals.providers import Listener
from openai_metering.signals.series import Attributes as _Attributes, Series
from openai_metering.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai_metering.finished import FinishedCall, Request, Server
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved
    from openai_metering.settings import Settings
    from openai_metering.usage import Number, Usage

    _Key = tuple[Any, ...]
    """A counter, the function that makes the attributes, and what it makes them of."""
    _Addition = tuple[_Key, Number]

DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

_DURATIONS: Final = {"chat": c.METRIC_INFERENCE_DURATION, "embeddings": c.METRIC_EMBEDDINGS_DURATION}

# Counter, the total it counts, and the splits of that total by modality; what no split covers is `unknown`, so that the
# sum over modalities stays the total.
_COUNTERS: Final = (
    (
        c.METRIC_INPUT_TOKENS,
        c.INPUT_TOKENS,
        ((c.TEXT_INPUT_TOKENS, "text"), (c.IMAGE_INPUT_TOKENS, "image"), (c.AUDIO_INPUT_TOKENS, "audio")),
    ),
    (
        c.METRIC_OUTPUT_TOKENS,
        c.OUTPUT_TOKENS,
        ((c.TEXT_OUTPUT_TOKENS, "text"), (c.IMAGE_OUTPUT_TOKENS, "image"), (c.AUDIO_OUTPUT_TOKENS, "audio")),
    ),
    (
        c.METRIC_CACHE_READ,
        c.CACHE_READ_INPUT_TOKENS,
        (
            (c.TEXT_CACHE_READ_TOKENS, "text"),
            (c.IMAGE_CACHE_READ_TOKENS, "image"),
            (c.AUDIO_CACHE_READ_TOKENS, "audio"),
        ),
    ),
    (c.METRIC_CACHE_WRITE, c.CACHE_WRITE_INPUT_TOKENS, ()),
    (c.METRIC_REASONING, c.REASONING_OUTPUT_TOKENS, ()),
)

# What is billed by another unit than tokens, or as tokens of another model than the call's own, with its unit.
_UNITS: Final = {
    c.IMAGES: "images",
    c.SECONDS: "seconds",
    c.CHARACTERS: "characters",
    c.WEB_SEARCHES: "web_searches",
    c.SEARCHES: "searches",
    c.CONTAINERS: "containers",
    c.INVOCATIONS: "invocations",
    c.BATCH_REQUESTS: "batch_requests",
    c.TRAINED_TOKENS: "trained_tokens",
    c.GRADER_TOKENS: "grader_tokens",
    c.IMAGE_GEN_INPUT_TOKENS: "image_gen_input_tokens",
    c.IMAGE_GEN_OUTPUT_TOKENS: "image_gen_output_tokens",
    c.SVG_INPUT_TOKENS: "svg_input_tokens",
    c.SVG_OUTPUT_TOKENS: "svg_output_tokens",
}


# What the other signals say of themselves.
_OWN: Final = {
    c.METRIC_RECORDS: ("{record}", "Usage records that were written or handed to a logger provider."),
    c.METRIC_RECORDS_DROPPED: ("{record}", "Usage records that were lost."),
    c.METRIC_LEDGER_BYTES: ("By", "Bytes appended to the ledger."),
    c.METRIC_LEDGER_ERRORS: ("{error}", "Records that the ledger did not take."),
    c.METRIC_LEDGER_DELETED: ("By", "Bytes of ledger files that were deleted because of a limit."),
}

MAX_PENDING: Final = 1024
"""Sums that wait for a reader to collect; beyond, they are handed over at once."""

_live: Final[set[Metrics]] = set()  # until closed: what was counted must outlive whoever counted it


class Metrics:
    """Counts calls, tokens and durations.

    Counts are summed up here and reach OpenTelemetry's counters when a reader collects: one addition to a dictionary
    in place of the five or six calls of `Counter.add` that a metered call needs, the largest part of its cost.
    """

    def __init__(
        self, settings: Settings, meter_provider: Any = None, open_calls: Callable[[], int] = lambda: 0
    ) -> None:
        self._levels = settings.metric_attributes
        self._listener = Listener(meter_provider, metrics.get_meter_provider)
        meter = metrics.get_meter(c.SCOPE_NAME, VERSION, meter_provider, c.SCHEMA_URL)
        latest, legacy = settings.metrics != "legacy", settings.metrics != "latest"
        durations = {
            name: meter.create_histogram(
                name, "s", "Duration of the call.", explicit_bucket_boundaries_advisory=DURATION_BUCKETS
            )
            for name in (*(_DURATIONS.values() if latest else ()), c.METRIC_OPERATION_DURATION)
        }
        self._any_duration = (durations[c.METRIC_OPERATION_DURATION],)
        self._durations = {
            kind: (*((durations[name],) if latest else ()), *(self._any_duration if legacy else ()))
            for kind, name in _DURATIONS.items()
        }
        self._token_usage = (
            meter.create_histogram(
                c.METRIC_TOKEN_USAGE, "{token}", "Tokens used.", explicit_bucket_boundaries_advisory=TOKEN_BUCKETS
            )
            if legacy
            else None
        )
        self._counters = [
            (meter.create_counter(name, "{token}", "Tokens used."), total, splits)
            for name, total, splits in (_COUNTERS if latest else ())
        ]
        self._units = meter.create_counter(c.METRIC_UNITS, "1", "Units used that are not tokens of the call's model.")
        self._calls = meter.create_counter(c.METRIC_CALLS, "{call}", "Billable calls.")
        self._errors = meter.create_counter(c.METRIC_ERRORS, "{error}", "Errors of openai-metering itself, swallowed.")
        self._own = {name: meter.create_counter(name, unit, description) for name, (unit, description) in _OWN.items()}
        errors.listeners.append(self._swallowed)
        self._open_calls = open_calls
        meter.create_observable_gauge(
            c.METRIC_OPEN_CALLS, [_collected], "{call}", "Calls whose answer is still being read."
        )
        self._pending: dict[_Key, Number] = {}
        self._lock = threading.Lock()
        self._series = Series(settings.metric_series)
        _live.add(self)

    def listening(self) -> bool:
        """Whether metrics go anywhere."""
        return bool(self._listener)

    def add(self, finished: FinishedCall) -> None:
        """Count a finished call; usage that is not reported adds no token."""
        if not self._listener:
            return
        common = self._common(finished)
        timed = common if finished.error_type is None else _with_error(common, finished.error_type)
        for duration in self._durations.get(finished.operation.kind, self._any_duration):
            duration.record((finished.ended - finished.started) / 1e9, self._series.within(duration, timed))
        operation, usage, who = finished.operation, finished.usage, finished.who
        additions: list[_Addition] = [
            (
                (
                    self._calls,
                    _calls,
                    operation.name,
                    finished.outcome,
                    usage.status,
                    who.status,
                    who.attribution.organization_id,
                ),
                1,
            )
        ]
        if finished.state != TOLD:
            self._used(usage, common, additions)
        self._sum(additions)

    def count(self, *counted: tuple[str, int, str, str]) -> None:
        """Add to our own counters, for another signal.

        Args:
            counted: name of the counter, amount, and an attribute's name and value, both empty where there is none.
        """
        if self._listener:
            self._sum(
                [((self._own[name], _own_attributes, key, value), amount) for name, amount, key, value in counted]
            )

    def settle(self, finished: FinishedCall) -> None:
        """Count what a job used, whose call was counted when it was ordered."""
        if self._listener:
            additions: list[_Addition] = []
            self._used(finished.usage, self._common(finished), additions)
            self._sum(additions)

    def _common(self, finished: FinishedCall) -> _Attributes:
        answer = finished.answer
        return _common(
            finished.operation,
            finished.server,
            finished.request,
            finished.who,
            answer.model,
            answer.service_tier,
            self._levels,
        )

    def _used(self, usage: Usage, common: _Attributes, additions: list[_Addition]) -> None:
        counts = usage.counts
        if usage.status == "reported":
            for counter, total, splits in self._counters:
                rest = counts.get(total)
                if not rest:
                    continue
                for attribute, modality in splits:
                    if part := min(counts.get(attribute, 0), rest):
                        rest -= part
                        additions.append(((counter, _with_modality, common, modality), part))
                if rest:
                    additions.append(((counter, _with_modality, common, "unknown"), rest))
            if self._token_usage is not None:
                self._record_tokens(self._token_usage, counts, common)
        elif usage.reason != "from_request":
            return
        if not _UNITS.keys().isdisjoint(counts):
            additions += [
                ((self._units, _with_unit, common, _UNITS[name]), number)
                for name, number in counts.items()
                if number and name in _UNITS
            ]

    def _record_tokens(self, histogram: Any, counts: Mapping[str, Number], common: _Attributes) -> None:
        for kind, total in (("input", c.INPUT_TOKENS), ("output", c.OUTPUT_TOKENS)):
            if (amount := counts.get(total)) is not None:
                histogram.record(amount, self._series.within(histogram, _with_type(common, kind)))

    def _sum(self, additions: list[_Addition]) -> None:
        with self._lock:
            pending = self._pending
            for key, amount in additions:
                pending[key] = pending.get(key, 0) + amount
        # Nobody collects, or there are very many organizations; or a stream ended after `uninstrument()`.
        if len(pending) > MAX_PENDING or self not in _live:
            self.flush()

    def flush(self) -> None:
        """Hand what was counted to the counters."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for (counter, attributes, *values), amount in pending.items():
            try:
                counter.add(amount, self._series.within(counter, attributes(*values)))
            except Exception as error:
                errors.swallow("metrics", error)

    def close(self) -> None:
        """Hand over what is left, and stop listening to errors; called by ``uninstrument()``."""
        self.flush()
        _live.discard(self)
        if self._swallowed in errors.listeners:
            errors.listeners.remove(self._swallowed)

    def open_calls(self) -> int:
        """How many answers are still being read."""
        return self._open_calls()

    def _swallowed(self, kind: str) -> None:
        self._errors.add(1, {"kind": kind})

    def forget(self) -> None:
        """A forked child counts from zero, and waits for no lock that a thread of its parent held."""
        self._lock = threading.Lock()
        self._pending = {}


def _collected(options: Any) -> list[Observation]:
    """Called by a reader just before it collects: what was counted goes into the counters first.

    OpenTelemetry keeps the first callback of an instrument, so it serves whatever is switched on and off later.
    """
    del options
    for live in tuple(_live):
        live.flush()
    return [Observation(max(live.open_calls() for live in _live))] if _live else []


@functools.lru_cache(maxsize=4096)
def _common(
    operation: Operation,
    server: Server,
    request: Request,
    who: Resolved,
    response_model: str | None,
    service_tier: str | None,
    levels: frozenset[str],
) -> _Attributes:
    attributes = _Attributes({c.OPERATION_NAME: operation.kind, c.PROVIDER_NAME: server.provider})
    optional = {
        c.REQUEST_MODEL: request.model,
        c.RESPONSE_MODEL: response_model,
        c.SERVER_ADDRESS: server.address,
        c.SERVER_PORT: server.port,
        c.OPENAI_RESPONSE_SERVICE_TIER: service_tier,
        c.ORGANIZATION_ID: who.attribution.organization_id,
        c.SUBSCRIBER_ID: who.attribution.subscriber_identity if "subscriber" in levels else None,
        c.CREDENTIAL_ID: who.attribution.subscriber_credential if "credential" in levels else None,
    }
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes


@functools.lru_cache(maxsize=256)
def _own_attributes(key: str, value: str) -> _Attributes:
    return _Attributes({key: value} if key else {})


@functools.lru_cache(maxsize=4096)
def _with_modality(common: _Attributes, modality: str) -> _Attributes:
    return _Attributes({**common, c.TOKEN_MODALITY: modality})


@functools.lru_cache(maxsize=4096)
def _with_type(common: _Attributes, kind: str) -> _Attributes:
    return _Attributes({**common, c.TOKEN_TYPE: kind})


@functools.lru_cache(maxsize=4096)
def _with_error(common: _Attributes, error_type: str) -> _Attributes:
    return _Attributes({**common, c.ERROR_TYPE: error_type})


@functools.lru_cache(maxsize=4096)
def _with_unit(common: _Attributes, unit: str) -> _Attributes:
    return _Attributes({**common, c.UNIT: unit})


@functools.lru_cache(maxsize=4096)
def _calls(operation: str, outcome: str, usage: str, status: str, organization: str | None) -> _Attributes:
    attributes: dict[str, Any] = {
        c.OPERATION: operation,
        c.OUTCOME: outcome,
        c.USAGE_STATUS: usage,
        c.ATTRIBUTION_STATUS: status,
    }
    if organization is not None:
        attributes[c.ORGANIZATION_ID] = organization
    return _Attributes(attributes)


def _forget_in_child() -> None:
    for live in tuple(_live):
        live.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
