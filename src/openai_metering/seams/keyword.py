"""The ``usage_metadata`` keyword: taken out of every method of every resource, and put on the call's carrier."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.resolution import EMPTY, Attribution
from openai_metering.resolver import resolver_is_set, resolver_says
from openai_metering.scope import attribution, current_attribution
from openai_metering.seams import carrier as carriers
from openai_metering.seams.carrier import KEYWORD
from openai_metering.seams.patches import inside
from openai_metering.seams.wrappers import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai_metering.seams.metering import Metering
    from openai_metering.seams.patches import Patches


def patch_resources(module: Any, patches: Patches, metering: Metering) -> None:
    """Wrap the methods of all resource classes, those that are loaded and those that will be.

    Args:
        module: ``openai._resource``.
        patches: remembers what was replaced.
        metering: what stands behind the wrappers.
    """
    for base in (module.SyncAPIResource, module.AsyncAPIResource):
        for resource in _subclasses(base):
            _patch_methods(resource, patches, metering)
        patches.add(base, "__init_subclass__", classmethod(_init_subclass(base, patches, metering)))


def patch_response_managers(module: Any, patches: Patches, metering: Metering) -> None:
    """Take the scope when ``with_streaming_response`` is called, not when its manager is entered.

    Args:
        module: ``openai._response``.
        patches: remembers what was replaced.
        metering: what stands behind the wrapper.
    """
    manager = module.ResponseContextManager
    original = inside(manager, "__init__")

    @functools.wraps(original)
    def init(self: Any, request_func: Any, *args: Any, **kwargs: Any) -> None:
        original(
            self, _stamped(request_func) if metering.active and metering.signals else request_func, *args, **kwargs
        )

    patches.replace(manager, "__init__", init)


def patch_raw_views(module: Any, patches: Patches, metering: Metering) -> None:
    """Take keyword and scope when a method of an asynchronous raw view is called, not when its coroutine is awaited.

    Args:
        module: ``openai._legacy_response``, whose function makes the methods of these views.
        patches: remembers what was replaced.
        metering: what stands behind the wrapper.
    """
    original = inside(module, "async_to_raw_response_wrapper")

    @functools.wraps(original)
    def async_to_raw_response_wrapper(func: Any) -> Any:
        return Method(original(func), functools.partial(_carried, metering))

    patches.replace(module, "async_to_raw_response_wrapper", async_to_raw_response_wrapper)


def _stamped(request_func: Any) -> Any:
    """The SDK's ``partial`` of a method, with the keyword and the scope of this moment on a carrier."""
    try:
        if not isinstance(request_func, functools.partial) or "extra_headers" not in request_func.keywords:
            return request_func
        keywords = dict(request_func.keywords)
        keyword = keywords.pop(KEYWORD, None)
        scope = current_attribution()
        if KEYWORD in request_func.keywords or scope is not EMPTY or resolver_is_set():
            _stamp(keywords, keyword, scope)
        return functools.partial(request_func.func, *request_func.args, **keywords)
    except Exception as error:
        errors.swallow("keyword", error)
        return request_func


def _init_subclass(base: Any, patches: Patches, metering: Metering) -> Callable[..., None]:
    def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807
        super(base, cls).__init_subclass__(**kwargs)
        try:
            if metering.active:
                _patch_methods(cls, patches, metering)
        except Exception as error:
            errors.swallow("keyword", error)

    return __init_subclass__


def _subclasses(base: type) -> Iterator[type]:
    subclass: type
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _patch_methods(resource: type, patches: Patches, metering: Metering) -> None:
    if not resource.__module__.startswith("openai."):
        return  # an application's own subclass hands its keywords on, or has a use of its own for them
    for name in list(vars(resource)):
        if name.startswith("_") or patches.has(resource, name):
            continue
        method = inside(resource, name)
        if type(method) is FunctionType:
            wrapped = _wrapped(method, patches, metering)
            if wrapped is not None:
                patches.replace(resource, name, wrapped)


def _wrapped(method: FunctionType, patches: Patches, metering: Metering) -> Any:
    parameters = _parameters(method)
    if KEYWORD in parameters:
        return None
    if "websocket_connection_options" in parameters:
        from openai_metering.seams import sockets  # noqa: PLC0415 - an eighth of what is loaded, for few applications

        try:
            sockets.patch_loaded(method.__module__, patches, metering)
        except Exception as error:
            errors.swallow("connect", error)
        return Method(method, functools.partial(sockets.connect, metering, patches))
    wrapper = _carried if "extra_headers" in parameters else _scoped
    bound = functools.partial(wrapper, metering)
    deprecation = getattr(method, "__deprecated__", None)
    inner = getattr(method, "__wrapped__", None)
    if isinstance(deprecation, str) and isinstance(inner, FunctionType):
        # Kept outermost: its warning is to name the caller's line, not ours.
        from typing_extensions import deprecated  # noqa: PLC0415 - the SDK has it, and only deprecated methods need it

        return deprecated(deprecation)(Method(inner, bound))
    return Method(method, bound)


def _parameters(method: FunctionType) -> tuple[str, ...]:
    """The names of what a method takes, the SDK's decorators aside: a thirtieth of the time of `inspect.signature`."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    if code is None:
        return tuple(inspect.signature(method).parameters)
    return tuple(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _carried(
    metering: Metering, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A method that sends a request: who it is for travels in its headers."""
    try:
        if metering.clients is not None and (client := getattr(instance, "_client", None)) is not None:
            metering.clients.keep(type(client))
        scope = current_attribution()
        body: Any = kwargs.get("extra_body")
        in_body = type(body) is dict and KEYWORD in body  # LiteLLM puts keywords there that it does not know
        if KEYWORD in kwargs or in_body or scope is not EMPTY or resolver_is_set():
            kwargs = dict(kwargs)
            keyword = kwargs.pop(KEYWORD, None)
            if in_body:
                kwargs["extra_body"] = body = dict(body)
                keyword = body.pop(KEYWORD) if keyword is None else keyword
            if metering.active and metering.signals is not None:
                _stamp(kwargs, keyword, scope)
    except Exception as error:
        errors.swallow("keyword", error)
        kwargs.pop(KEYWORD, None)
    return wrapped(*args, **kwargs)


def _stamp(kwargs: dict[str, Any], keyword: object, scope: Any) -> None:
    values = Attribution.from_mapping(keyword)
    headers = kwargs.get("extra_headers")
    stamped = carriers.find(headers)
    resolver = None
    if stamped is not None and stamped.scope is not None:
        # Stamped further out, by a helper that calls this method later: what it saw is the call's own time.
        if values is EMPTY:
            return
        values, scope, resolver = stamped.keyword.merge(values), stamped.scope, stamped.resolver
    else:
        resolver = resolver_says()
        if stamped is not None:  # by `usage_headers()`
            values = stamped.keyword.merge(values)
    if values is not EMPTY or scope is not EMPTY or resolver_is_set():
        kwargs["extra_headers"] = carriers.put(headers, carriers.carrier_class()(values, scope, resolver))


def _scoped(
    metering: Metering, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A method without headers of its own, which calls others: they run in a scope."""
    del instance
    if KEYWORD not in kwargs:
        return wrapped(*args, **kwargs)
    kwargs = dict(kwargs)
    scope = attribution(kwargs.pop(KEYWORD))
    if not metering.active or metering.signals is None:
        return wrapped(*args, **kwargs)
    if inspect.iscoroutinefunction(wrapped):
        return _awaited(scope, wrapped, args, kwargs)
    with scope:
        return wrapped(*args, **kwargs)


async def _awaited(
    scope: attribution, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with scope:
        return await wrapped(*args, **kwargs)
