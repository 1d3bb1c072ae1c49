"""The second seam: ``parse_event`` of the SDK's websocket connections, which every event of a server passes."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.masking import mask
from openai_metering.realtime import socket_of
from openai_metering.resolution import Attribution
from openai_metering.scope import current_attribution
from openai_metering.seams import carrier as carriers, methods
from openai_metering.seams.baggage import unnamed
from openai_metering.seams.patches import inside
from openai_metering.seams.sending import Opening
from openai_metering.seams.servers import socket_server_of
from openai_metering.seams.sessions import Session
from openai_metering.seams.who import beneath_of, learnt
from openai_metering.usage import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from openai_metering.seams.metering import Metering
    from openai_metering.seams.patches import Patches

_MARK: Final = "_openai_metering_of"
_patching = threading.Lock()


def connect(
    metering: Metering,
    patches: Patches,
    wrapped: Callable[..., Any],
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """A method that opens a websocket: who it is for goes to its manager, as a header would go over the wire.

    The connection classes are patched here, when the first of their module is asked for: whatever module an SDK has
    them in, and however late it is imported, it is complete by now.
    """
    keyword = None
    if carriers.KEYWORD in kwargs:
        kwargs = dict(kwargs)
        keyword = kwargs.pop(carriers.KEYWORD)
    headers: Any = kwargs.get("extra_headers")
    carrier = carriers.find(headers)
    if carrier is not None:  # by `usage_headers()`: not every version leaves it out of a handshake
        kwargs = {**kwargs, "extra_headers": {name: headers[name] for name in headers if name != carriers.KEY}}
    manager = wrapped(*args, **kwargs)
    if metering.active:
        try:
            _patch_module(sys.modules[type(manager).__module__], patches, metering)
            if metering.signals is not None:
                said = Attribution.from_mapping(keyword)
                vars(manager)[methods.ATTRIBUTE] = Opening(
                    said if carrier is None else carrier.keyword.merge(said),
                    current_attribution(),
                    beneath_of(metering, getattr(instance, "_client", None), kwargs.get("extra_headers")),
                )
        except Exception as error:
            errors.swallow("connect", error)
    return manager


def patch_loaded(name: str, patches: Patches, metering: Metering) -> None:
    """Patch a module whose import is complete, for a `connect` that somebody has taken from it before.

    Args:
        name: of a module of the SDK that opens websockets.
        patches: remembers what was replaced.
        metering: what stands behind the wrappers.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        try:
            _patch_module(module, patches, metering)
        except Exception as error:
            errors.swallow("connect", error)


def patch_lanes(module: Any, patches: Patches, metering: Metering) -> None:
    """Note what is sent over the lanes of a multiplexed connection, which write to its transport themselves.

    Args:
        module: ``openai.lib.responses_websocket._session``.
        patches: remembers what was replaced.
        metering: what stands behind the wrappers.
    """
    for lane in _classes(module):
        if {"send", "recv", "get_final_response"} <= vars(lane).keys():
            _replace(lane, "send", methods.wrap_send(inside(lane, "send"), methods.noted_by_lane), patches, metering)


# -- The SDK's classes -----------------------------------------------------------------------------------------------


def connection_classes(module: Any) -> list[type]:
    """The connection classes that a module of the SDK defines."""
    return [found for found in _classes(module) if "parse_event" in vars(found)]


def manager_classes(module: Any) -> list[type]:
    """The context managers that open them."""
    return [
        found
        for found in _classes(module)
        if "enter" in vars(found) and ("__enter__" in vars(found) or "__aenter__" in vars(found))
    ]


def resource_classes(module: Any) -> list[type]:
    """The classes whose methods send messages through a connection."""
    return [
        found
        for found in _classes(module)
        if any(ancestor.__name__.endswith("ConnectionResource") for ancestor in found.__mro__)
    ]


def _classes(module: Any) -> Iterator[type]:
    for found in list(vars(module).values()):
        if inspect.isclass(found) and found.__module__ == module.__name__:
            yield found


def _patch_module(module: Any, patches: Patches, metering: Metering) -> None:
    with _patching:
        if module.__name__ in metering.socket_modules:
            return
        # Switched off, only what takes the keyword is put in.
        metered = metering.signals is not None
        for resource in resource_classes(module):
            for name, method in list(vars(resource).items()):
                if not name.startswith("_") and type(method) is FunctionType:
                    _replace(resource, name, methods.wrap_resource(method), patches, metering)
        for connection in connection_classes(module):
            _patch_connection(connection, patches, metering, methods.WRAPPERS if metered else methods.SENDERS)
        for manager in manager_classes(module):
            for name in ("__enter__", "__aenter__", "enter") if metered else ():
                if name in vars(manager):
                    _replace(manager, name, _enter(inside(manager, name), metering), patches, metering)
            if "send" in vars(manager):
                _replace(manager, "send", methods.wrap_send(inside(manager, "send"), methods.queued), patches, metering)
        metering.socket_modules.add(module.__name__)


def _patch_connection(
    connection: type, patches: Patches, metering: Metering, wrappers: Mapping[str, Callable[..., Any]]
) -> None:
    """Wrap the methods where they are defined: in the class, or in a base that several of them have."""
    for name, wrapper in wrappers.items():
        owner = next((ancestor for ancestor in connection.__mro__ if name in vars(ancestor)), None)
        if owner is not None:
            _replace(owner, name, wrapper(inside(owner, name)), patches, metering)


def _replace(owner: type, name: str, replacement: Any, patches: Patches, metering: Metering) -> None:
    if getattr(vars(owner)[name], _MARK, None) is not metering:
        setattr(replacement, _MARK, metering)
        patches.replace(owner, name, replacement)


# -- Opening ---------------------------------------------------------------------------------------------------------


def _enter(original: Callable[..., Any], metering: Metering) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def enter_async(self: Any) -> Any:
            around = unnamed(active=metering.active)
            try:
                connection = await original(self)
            finally:
                around.leave()
            _opened(metering, self, connection)
            return connection

        return enter_async

    @functools.wraps(original)
    def enter(self: Any) -> Any:
        around = unnamed(active=metering.active)
        try:
            connection = original(self)
        finally:
            around.leave()
        _opened(metering, self, connection)
        return connection

    return enter


def _opened(metering: Metering, manager: Any, connection: Any) -> None:
    """Give an open connection its session."""
    try:
        if not metering.active:
            return
        socket = socket_of(type(connection).__module__.rpartition(".")[2])
        query = _argument(manager, "extra_query")
        model = text(_argument(manager, "model")) or text(query.get("model") if isinstance(query, dict) else None)
        opening = vars(manager).get(methods.ATTRIBUTE) or Opening(scope=current_attribution())
        if opening.beneath.late and metering.key_map is not None:
            handshake = connection._connection.request  # noqa: SLF001 - the connection of the websocket library
            opening.beneath = learnt(metering.key_map, opening.beneath, handshake.headers)
        joined = None if socket.joins is None else text(_argument(manager, socket.joins))
        vars(connection)[methods.ATTRIBUTE] = Session(
            metering,
            socket,
            socket_server_of(_argument(manager, "client")),
            None if model is None else mask(model),
            opening,
            joined,
        )
    except Exception as error:
        errors.swallow("open", error)


def _argument(manager: Any, name: str) -> Any:
    """What ``connect()`` was given, as the SDK's managers keep it."""
    return next((value for key, value in vars(manager).items() if key.endswith(f"__{name}")), None)
