"""The one HTTP seam: ``SyncAPIClient.request`` and its asynchronous twin, which every call of every resource passes."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from openai_metering import errors, operations
from openai_metering.call import Call, drain
from openai_metering.seams import bodies, carrier as carriers, responses, streams
from openai_metering.seams.baggage import Around
from openai_metering.seams.carrier import KEYWORD
from openai_metering.seams.clients import REQUEST, RESPONSE, Clients
from openai_metering.seams.failures import classify, refuses_stream_options, request_of, retries_of
from openai_metering.seams.patches import inside
from openai_metering.seams.requests import asking_for_usage, body_of, read_request, said_in_body
from openai_metering.seams.servers import server_of
from openai_metering.seams.who import learn_key, who_of
from openai_metering.sights import Sight
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.finished import Server
    from openai_metering.operations import Operation
    from openai_metering.seams.metering import Metering
    from openai_metering.seams.patches import Patches
    from openai_metering.signals import Signals


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
        sending = _begin(metering, self, args, kwargs)
        if sending is None:
            around = _unmetered(metering)
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
        sending = _begin(metering, self, args, kwargs)
        if sending is None:
            around = _unmetered(metering)
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


# -- Before the request ----------------------------------------------------------------------------------------------


def _unmetered(metering: Metering) -> Around | None:
    """Enter the context of a request that is free of charge: nobody's name is in its baggage either."""
    try:
        if not metering.active:
            return None
        around = Around()
        around.enter(None)
        return around
    except Exception as error:
        errors.swallow("context", error)
        return None


class _Sending(Around):
    """A billable call on its way: what the SDK's ``request`` is given in place of what it was called with."""

    __slots__ = ("_asked_for_usage", "_metering", "_options", "args", "call", "kwargs")

    def __init__(
        self, metering: Metering, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], options: Any
    ) -> None:
        super().__init__()
        self._metering = metering
        self.call = call
        self._options = options
        self.kwargs = kwargs
        self._asked_for_usage = False
        self.args = args
        self._send(options)

    def _send(self, options: Any) -> None:
        """Put these options in the place of the caller's: the second positional argument in every version."""
        if len(self.args) > 1:
            self.args = (self.args[0], options, *self.args[2:])
        else:
            self.kwargs = {**self.kwargs, "options": options}

    def ask_for_usage(self, changed: Any) -> None:
        """Send these options, which ask for usage where the caller did not."""
        self._asked_for_usage = True
        self.call.hide_usage = True
        self.call.host_refuses = functools.partial(_refusing, self._metering, self.call.server)
        self._send(changed)

    def repeats(self, error: BaseException) -> bool:
        """Note that the call failed. Returns whether it is to be made once more, as the caller wrote it."""
        try:
            if self._asked_for_usage and refuses_stream_options(error):
                self._asked_for_usage = False
                self.call.hide_usage = False
                self._send(self._options)
                return True
        except Exception as own:
            errors.swallow("repeat", own)
            if self._asked_for_usage:  # what the caller would have got without us is not known otherwise
                self._asked_for_usage = False
                self.call.hide_usage = False
                self._send(self._options)
                return True
        self.failed(error)
        return False

    def accepted(self) -> None:
        """The host took the call as the caller wrote it, and not with our option: it is not asked again."""
        try:
            _refusing(self._metering, self.call.server)
        except Exception as error:
            errors.swallow("repeat", error)

    def failed(self, error: BaseException) -> None:
        """The call ended with an exception."""
        try:
            if self.call.who_so_far is not None:
                learn_key(self._metering, self.call, request_of(error))
            status_code = getattr(error, "status_code", None)
            if isinstance(status_code, int):
                request_id = text(getattr(error, "request_id", None))
                self.call.responded(status_code, request_id, self.call.retries or retries_of(error))
            self.call.fail(classify(error, answering=self.call.answering))
        except Exception as own:
            errors.swallow("fail", own)

    def returned(self) -> None:
        """The SDK has an answer; where nobody observes it, the call ends here."""
        try:
            if not self.call.watched:
                self.call.finish("completed", reason="internal")
        except Exception as error:
            errors.swallow("finish", error)


def _refusing(metering: Metering, server: Server) -> None:
    metering.refusing_hosts.add((server.address, server.port))
    errors.warn_once(
        f"refused {server.address}:{server.port}",
        "%s refuses stream_options; the usage of chat streams there is unknown where it is not sent unasked.",
        server.address,
    )


def _begin(metering: Metering, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Sending | None:
    """Start a call. Returns ``None`` where it is free of charge, nothing listens, or something of ours went wrong."""
    try:
        signals = metering.signals
        if not metering.active or signals is None:
            return None
        options: Any = args[1] if len(args) > 1 else kwargs.get("options")
        operation: Operation | None
        try:
            operation = operations.find(options.method, options.url)
        except (AttributeError, TypeError):
            if _is_request(options):
                raise
            operation = None  # the SDK's own exception says what is wrong with it
        if operation is None or not signals.listening() or not _starts(operation, options):
            return None
        drain()
        if operation.of is not None:
            return _look(metering, signals, operation, client, args, kwargs)
        body = body_of(options)
        if KEYWORD in body:
            options = said_in_body(options)
            body = body_of(options)
        who, so_far = who_of(metering, client, options.headers)
        request = read_request(operation, body, client, options.headers)
        call = Call(signals, operation, server_of(client), request, who)
        call.who_so_far = so_far
        try:
            if operation.estimate is not None:
                call.estimate = operation.estimate(body)
            ours = _carrying(options, call)
            sending = _Sending(metering, call, args, kwargs, ours)
            if operation.asks_for_usage and kwargs.get("stream") and _may_ask(metering, call):
                changed = asking_for_usage(ours)
                if changed is not None:
                    sending.ask_for_usage(changed)
            sending.enter(call.span)
        except Exception as error:
            errors.swallow("begin", error)
            call.finish("completed", reason="internal")
            return None
        return sending
    except Exception as error:
        errors.swallow("begin", error)
        return None


def _is_request(options: Any) -> bool:
    return isinstance(getattr(options, "method", None), str) and isinstance(getattr(options, "url", None), str)


def _starts(operation: Operation, options: Any) -> bool:
    """Whether a request starts what its row says."""
    return operation.starts is None or operation.starts(body_of(options))


def _look(
    metering: Metering,
    signals: Signals,
    operation: Operation,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Sending:
    """Start to look at a job: nothing is billed, and the end of the job may be seen."""
    options = args[1] if len(args) > 1 else kwargs["options"]
    sight = Sight(signals, operation, server_of(client), operations.job_in(operation, options.url))
    sending = _Sending(metering, sight, args, kwargs, _carrying(options, sight))
    sending.enter(None)
    return sending


def _carrying(options: Any, call: Call) -> Any:
    """A copy of the options by which the response finds its call."""
    ours = copy.copy(options)
    ours.headers = carriers.put(options.headers, carriers.carrier_class()(call=call))
    return ours


def _may_ask(metering: Metering, call: Call) -> bool:
    return (
        metering.settings is not None
        and metering.settings.stream_usage == "auto"
        and (call.server.address, call.server.port) not in metering.refusing_hosts
    )


# -- After the response ----------------------------------------------------------------------------------------------


def _responded(metering: Metering, kwargs: dict[str, Any]) -> Call | None:
    """Return the call that a response belongs to, with what the response says about itself noted on it."""
    call = None
    try:
        if not metering.active:
            return None
        carrier = carriers.find(kwargs["options"].headers)
        call = None if carrier is None else carrier.call
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
