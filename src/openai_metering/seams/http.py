"""The one HTTP seam: ``SyncAPIClient.request`` and its asynchronous twin, which every call of every resource passes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from openai_metering import errors, operations
from openai_metering.seams import bodies, responses, streams
from openai_metering.seams.baggage import current
from openai_metering.seams.clients import REQUEST, RESPONSE, Clients
from openai_metering.seams.outgoing import begin, unmetered
from openai_metering.seams.patches import inside
from openai_metering.seams.who import learn_key
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.call import Call
    from openai_metering.seams.metering import Metering
    from openai_metering.seams.patches import Patches


def patch_clients(module: Any, patches: Patches, metering: Metering) -> None:
    """Put the seam into the two client classes.

    Args:
        module: ``openai._base_client``.
        patches: remembers what was replaced.
        metering: what stands behind the seam.
    """
    sync, asynchronous = module.SyncAPIClient, module.AsyncAPIClient
    originals = inside(sync, REQUEST), inside(asynchronous, REQUEST)
    seams = _request(originals[0], metering), _async_request(originals[1], metering)
    made = [  # all before the first is put in: a seam of which a part is missing would ask for usage and not hide it
        (sync, REQUEST, seams[0]),
        (sync, RESPONSE, _process_response(inside(sync, RESPONSE), metering)),
        (asynchronous, REQUEST, seams[1]),
        (asynchronous, RESPONSE, _async_process_response(inside(asynchronous, RESPONSE), metering)),
    ]
    for owner, name, replacement in made:
        patches.replace(owner, name, replacement)
    metering.clients = Clients(patches, dict(zip(originals, seams, strict=True)), (sync, asynchronous))


def _request(original: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        sending = begin(metering, self, args, kwargs)
        if sending is None:
            around = unmetered(metering)
            try:
                return original(self, *args, **kwargs)
            finally:
                if around is not None:
                    around.leave()
        try:
            result = original(self, *sending.args, **sending.kwargs)
        except BaseException as error:
            if not sending.repeats(error):
                raise
        else:
            sending.returned()
            return result
        finally:
            sending.leave()
        # The host refused the option that we added: the call goes out once more, as the caller wrote it.
        sending.enter(sending.call.span)
        try:
            result = original(self, *sending.args, **sending.kwargs)
        except BaseException as error:
            sending.failed(error)
            raise
        finally:
            sending.leave()
        sending.accepted()
        sending.returned()
        return result

    return request


def _async_request(original: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        sending = begin(metering, self, args, kwargs)
        if sending is None:
            around = unmetered(metering)
            try:
                return await original(self, *args, **kwargs)
            finally:
                if around is not None:
                    around.leave()
        try:
            result = await original(self, *sending.args, **sending.kwargs)
        except BaseException as error:
            if not sending.repeats(error):
                raise
        else:
            sending.returned()
            return result
        finally:
            sending.leave()
        sending.enter(sending.call.span)
        try:
            result = await original(self, *sending.args, **sending.kwargs)
        except BaseException as error:
            sending.failed(error)
            raise
        finally:
            sending.leave()
        sending.accepted()
        sending.returned()
        return result

    return request


def _process_response(original: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _responded(metering, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException:
            _spent(call, kwargs)
            raise
        _observe(call, result, kwargs)
        return result

    return process_response


def _async_process_response(original: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    @functools.wraps(original)
    async def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _responded(metering, kwargs)
        if call is None:
            return await original(self, *args, **kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException:
            _spent(call, kwargs)
            raise
        _observe(call, result, kwargs)
        return result

    return process_response


def _responded(metering: Metering, kwargs: dict[str, Any]) -> Call | None:
    """Return the call that a response belongs to, with what the response says about itself noted on it."""
    call = None
    try:
        if not metering.active:
            return None
        call = current.get()
        if call is not None:
            response = kwargs["response"]
            call.answering = True
            if call.who_so_far is not None:
                learn_key(metering, call, getattr(response, "request", None))
            if call.operation.names_job:
                call.answer.job = operations.job_in(call.operation, kwargs["options"].url)
            call.responded(
                response.status_code, text(response.headers.get("x-request-id")), kwargs.get("retries_taken") or 0
            )
    except Exception as error:
        errors.swallow("response", error)
    return call


def _spent(call: Call, kwargs: dict[str, Any]) -> None:
    """The SDK could not make what the caller wanted of an answer; what it cost is read all the same."""
    try:
        bodies.read_spent(call, kwargs["response"])
    except Exception as error:
        errors.swallow("spent", error)


def _observe(call: Call, result: Any, kwargs: dict[str, Any]) -> None:
    """Observe an answer in the form that the caller asked for."""
    try:
        response = kwargs["response"]
        if kwargs.get("stream") and hasattr(result, "_iterator"):
            responses.observe_stream(result, response, call)
        elif _is_read(result):
            call.read(result)
            call.complete()
        else:
            _observe_bytes(call, response, kwargs)
        call.watched = True
    except Exception as error:
        errors.swallow("observe", error)
        if call.hide_usage and kwargs.get("stream"):
            streams.hide_in(result)


def _is_read(result: Any) -> bool:
    """Whether an answer is an object that says all there is: the SDK's own models keep what they do not know."""
    if part(result, "usage") is not None:
        return True
    kind = type(result)
    return kind.__module__.startswith("openai.") and (hasattr(kind, "model_fields") or hasattr(kind, "__fields__"))


def _observe_bytes(call: Call, response: Any, kwargs: dict[str, Any]) -> None:
    """Read an answer that comes as bytes: at once where they are there, else as the caller reads them."""
    content_type = response.headers.get("content-type", "")
    try:
        body = response.content
    except Exception:  # the HTTP library's own: nobody has read the body yet
        binary = call.operation.binary and not content_type.startswith(bodies.EVENTS)
        events = not binary and (bool(kwargs.get("stream")) or content_type.startswith(bodies.EVENTS))
        responses.observe_body(response, call, events=events)
        if call.hide_usage:
            streams.hide_in_parsed(kwargs["options"])
        return
    passed = bodies.read_body(call, body, content_type)
    if call.hide_usage:
        # Read already, by a hook of the application or a transport in memory: what it reads again is to look as ordered.
        response._content = passed  # noqa: SLF001
        streams.hide_in_parsed(kwargs["options"])
