"""A call on its way to the provider: started, sent with what is ours in its options, once more where that is refused."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from openai_metering import errors, operations
from openai_metering.call import Call, drain
from openai_metering.seams import carrier as carriers
from openai_metering.seams.baggage import Around
from openai_metering.seams.carrier import KEYWORD
from openai_metering.seams.failures import classify, refuses_stream_options, request_of, retries_of
from openai_metering.seams.requests import asking_for_usage, body_of, read_request, said_in_body
from openai_metering.seams.servers import server_of
from openai_metering.seams.who import learn_key, who_of
from openai_metering.sights import Sight
from openai_metering.usage import text

if TYPE_CHECKING:
    from openai_metering.finished import Server
    from openai_metering.operations import Operation
    from openai_metering.seams.metering import Metering
    from openai_metering.signals import Signals


def unmetered(metering: Metering) -> Around | None:
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


class Sending(Around):
    """A billable call on its way: what the SDK's ``request`` is given in place of what it was called with."""

    __slots__ = ("_asked_for_usage", "_metering", "_options", "args", "kwargs")

    call: Call

    def __init__(
        self, metering: Metering, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], options: Any
    ) -> None:
        super().__init__(call)
        self._metering = metering
        self._options = options
        self.kwargs = kwargs
        self._asked_for_usage = False
        self.args = args
        if options is not _options_of(args, kwargs):
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


def begin(metering: Metering, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sending | None:
    """Start a call. Returns ``None`` where it is free of charge, nothing listens, or something of ours went wrong."""
    try:
        signals = metering.signals
        if not metering.active or signals is None:
            return None
        options = _options_of(args, kwargs)
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
            ours = carriers.without(options)
            sending = Sending(metering, call, args, kwargs, ours)
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


def _options_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("options")


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
) -> Sending:
    """Start to look at a job: nothing is billed, and the end of the job may be seen."""
    options = _options_of(args, kwargs)
    sight = Sight(signals, operation, server_of(client), operations.job_in(operation, options.url))
    sending = Sending(metering, sight, args, kwargs, carriers.without(options))
    sending.enter(None)
    return sending


def _may_ask(metering: Metering, call: Call) -> bool:
    return (
        metering.settings is not None
        and metering.settings.stream_usage == "auto"
        and (call.server.address, call.server.port) not in metering.refusing_hosts
    )
