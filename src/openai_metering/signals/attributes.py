"""The attributes of a call: at its start for samplers, at its end for everyone."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai_metering.finished import FinishedCall, Request, Server
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved

    Attributes = dict[str, Any]


@functools.lru_cache(maxsize=4096)
def who(resolved: Resolved) -> Mapping[str, Any]:
    """Who a call is for; an unknown level is absent, the status says how much is known."""
    values = resolved.attribution
    attributes: Attributes = {c.ATTRIBUTION_STATUS: resolved.status}
    if values.organization_id is not None:
        attributes[c.ORGANIZATION_ID] = values.organization_id
    if values.subscriber_identity is not None:
        attributes[c.SUBSCRIBER_ID] = values.subscriber_identity
        attributes[c.USER_HASH if resolved.hashed else c.USER_ID] = values.subscriber_identity
    if values.subscriber_credential is not None:
        attributes[c.CREDENTIAL_ID] = values.subscriber_credential
    for key, value in values.tags:
        attributes[c.TAG_PREFIX + key] = value
    if cut := values.cut:
        attributes[c.ATTRIBUTION_CUT] = cut
    return attributes


@functools.lru_cache(maxsize=4096)
def at_start(operation: Operation, server: Server, request: Request, resolved: Resolved) -> Mapping[str, Any]:
    """What is known before the request is sent; on the span when it starts, so that samplers can act on it."""
    attributes: Attributes = {
        c.OPERATION_NAME: operation.kind,
        c.PROVIDER_NAME: server.provider,
        c.OPERATION: operation.name,
    }
    if request.model is not None:
        attributes[c.REQUEST_MODEL] = request.model
    if server.address is not None:
        attributes[c.SERVER_ADDRESS] = server.address
        if server.port is not None:
            attributes[c.SERVER_PORT] = server.port
    if request.stream:
        attributes[c.REQUEST_STREAM] = True
    if request.max_tokens is not None:
        attributes[c.REQUEST_MAX_TOKENS] = request.max_tokens
    if request.service_tier is not None and request.service_tier != "auto":
        attributes[c.OPENAI_REQUEST_SERVICE_TIER] = request.service_tier
    if request.choices is not None:
        attributes[c.REQUEST_CHOICE_COUNT] = request.choices
    if request.organization is not None:
        attributes[c.REQUEST_ORGANIZATION] = request.organization
    if request.project is not None:
        attributes[c.REQUEST_PROJECT] = request.project
    attributes.update(request.facts)
    if operation.api_type is not None:
        attributes[c.OPENAI_API_TYPE] = operation.api_type
    attributes.update(who(resolved))
    return attributes


def at_end(finished: FinishedCall) -> Attributes:
    """What the answer said and how the call ended."""
    answer = finished.answer
    usage = finished.usage
    attributes: Attributes = {c.OUTCOME: finished.outcome, c.USAGE_STATUS: usage.status}
    if usage.reason is not None:
        attributes[c.USAGE_REASON] = usage.reason
    attributes.update(usage.counts)
    if answer.raw is not None:
        attributes[c.USAGE_RAW] = answer.raw
    if answer.facts is not None:
        attributes.update(answer.facts)
    if answer.response_id is not None:
        attributes[c.RESPONSE_ID] = answer.response_id
    if answer.model is not None:
        attributes[c.RESPONSE_MODEL] = answer.model
    if answer.service_tier is not None:
        attributes[c.OPENAI_RESPONSE_SERVICE_TIER] = answer.service_tier
    if answer.fingerprint is not None:
        attributes[c.OPENAI_SYSTEM_FINGERPRINT] = answer.fingerprint
    if answer.finish_reasons:
        attributes[c.RESPONSE_FINISH_REASONS] = answer.finish_reasons
    if finished.request_id is not None:
        attributes[c.REQUEST_ID] = finished.request_id
    if finished.retries:
        attributes[c.HTTP_RESEND_COUNT] = finished.retries
    if finished.error_type is not None:
        attributes[c.ERROR_TYPE] = finished.error_type
    if finished.status_code is not None:
        attributes[c.HTTP_RESPONSE_STATUS_CODE] = finished.status_code
    if finished.request.stream and finished.first_chunk is not None:
        attributes[c.RESPONSE_TIME_TO_FIRST_CHUNK] = (finished.first_chunk - finished.started) / 1e9
    return attributes
