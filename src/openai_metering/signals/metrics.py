"""The metrics of a call: the convention's duration and token counters, and our own count of calls."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics

from openai_metering import errors
from openai_metering.signals import conventions as c
from openai_metering.signals.providers import Listener
from openai_metering.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openai_metering.attribution import Resolved
    from openai_metering.finished import FinishedCall, Request, Server
    from openai_metering.operations import Operation
    from openai_metering.settings import Settings
    from openai_metering.usage import Number

DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

_DURATIONS: Final = {"chat": c.METRIC_INFERENCE_DURATION, "embeddings": c.METRIC_EMBEDDINGS_DURATION}

# Counter, the total it counts, and the splits of that total by modality; what no split covers is `unknown`, so that the
# sum over modalities stays the total.
_COUNTERS: Final = (
    (
        c.METRIC_INPUT_TOKENS,
        c.INPUT_TOKENS,
        ((c.TEXT_INPUT_TOKENS, "text"), (c.IMAGE_INPUT_TOKENS, "image"), (c.AUDIO_INPUT_TOKENS, "audio")),
    ),
    (c.METRIC_OUTPUT_TOKENS, c.OUTPUT_TOKENS, ((c.TEXT_OUTPUT_TOKENS, "text"), (c.AUDIO_OUTPUT_TOKENS, "audio"))),
    (
        c.METRIC_CACHE_READ,
        c.CACHE_READ_INPUT_TOKENS,
        (
            (c.TEXT_CACHE_READ_INPUT_TOKENS, "text"),
            (c.IMAGE_CACHE_READ_INPUT_TOKENS, "image"),
            (c.AUDIO_CACHE_READ_INPUT_TOKENS, "audio"),
        ),
    ),
    (c.METRIC_CACHE_WRITE, c.CACHE_WRITE_INPUT_TOKENS, ()),
    (c.METRIC_REASONING, c.REASONING_OUTPUT_TOKENS, ()),
)


class Metrics:
    """Counts calls, tokens and durations."""

    def __init__(self, settings: Settings, meter_provider: Any = None) -> None:
        self._levels = settings.metric_attributes
        self._listener = Listener(meter_provider, metrics.get_meter_provider)
        meter = metrics.get_meter(c.SCOPE_NAME, VERSION, meter_provider, c.SCHEMA_URL)
        self._durations = {
            name: meter.create_histogram(
                name, "s", "Duration of the call.", explicit_bucket_boundaries_advisory=DURATION_BUCKETS
            )
            for name in (*_DURATIONS.values(), c.METRIC_OPERATION_DURATION)
        }
        self._counters = [
            (meter.create_counter(name, "{token}", "Tokens used."), total, splits) for name, total, splits in _COUNTERS
        ]
        self._calls = meter.create_counter(c.METRIC_CALLS, "{call}", "Billable calls.")
        self._errors = meter.create_counter(c.METRIC_ERRORS, "{error}", "Errors of openai-metering itself, swallowed.")
        errors.listeners.append(self._swallowed)

    def listening(self) -> bool:
        """Whether metrics go anywhere."""
        return bool(self._listener)

    def add(self, finished: FinishedCall) -> None:
        """Count a finished call; usage that is not reported adds no token."""
        if not self._listener:
            return
        answer = finished.answer
        operation = finished.operation
        common = _common(
            operation,
            finished.server,
            finished.request,
            finished.who,
            answer.model,
            answer.service_tier,
            self._levels,
        )
        self._durations[_DURATIONS.get(operation.kind, c.METRIC_OPERATION_DURATION)].record(
            (finished.ended - finished.started) / 1e9,
            common if finished.error_type is None else {**common, c.ERROR_TYPE: finished.error_type},
        )
        counts = finished.usage.counts
        if finished.usage.status == "reported":
            for counter, total, splits in self._counters:
                amount = counts.get(total)
                if amount:
                    for modality, part in _by_modality(counts, amount, splits):
                        counter.add(part, _with_modality(common, modality))
        self._calls.add(1, _calls(operation.name, finished.outcome, finished.usage.status, finished.who))

    def close(self) -> None:
        """Stop listening to errors."""
        if self._swallowed in errors.listeners:
            errors.listeners.remove(self._swallowed)

    def _swallowed(self, kind: str) -> None:
        self._errors.add(1, {"kind": kind})


def _by_modality(
    counts: Mapping[str, Number], total: Number, splits: tuple[tuple[str, str], ...]
) -> Iterator[tuple[str, Number]]:
    rest = total
    for attribute, modality in splits:
        part = min(counts.get(attribute, 0), rest)
        if part:
            rest -= part
            yield modality, part
    if rest:
        yield "unknown", rest


class _Attributes(dict[str, Any]):
    """A set of attributes that is cached, so compared by identity."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


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


@functools.lru_cache(maxsize=4096)
def _with_modality(common: _Attributes, modality: str) -> dict[str, Any]:
    return {**common, c.TOKEN_MODALITY: modality}


@functools.lru_cache(maxsize=4096)
def _calls(operation: str, outcome: str, usage_status: str, who: Resolved) -> dict[str, Any]:
    attributes = {
        c.OPERATION: operation,
        c.OUTCOME: outcome,
        c.USAGE_STATUS: usage_status,
        c.ATTRIBUTION_STATUS: who.status,
    }
    if who.attribution.organization_id is not None:
        attributes[c.ORGANIZATION_ID] = who.attribution.organization_id
    return attributes
