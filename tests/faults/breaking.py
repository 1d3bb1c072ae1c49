"""Breaks functions of our own on purpose: finds every one, and makes its code raise wherever it is referenced."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import openai_metering

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is not broken: `errors` is the guard that all others report to, `instrumentor` and `installation` the edge that the application calls
# itself, `version` runs at import, and the command line, its directory and the local servers are no part of a metered
# process. Prices are made in the thread that exports, behind one guard that tests/cost tries.
LEFT_ALONE = {
    "errors",
    "instrumentor",
    "installation",
    "version",
    "command",
    "cli",
    "directory",
    "local",
    "pricing",
    "exporter",
}

MODULES = [
    *(
        module.name
        for module in pkgutil.walk_packages(openai_metering.__path__, "openai_metering.")
        if module.name.split(".")[1] not in LEFT_ALONE
    )
]

reached: list[str] = []
"""The broken functions that were called, one entry for each call."""


def unwrapped(value: object) -> FunctionType | None:
    """The plain function in whatever a class or module holds."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    value = inspect.unwrap(value) if callable(value) else value
    return value if type(value) is FunctionType else None


def functions() -> dict[str, FunctionType]:
    """Every function and method that the modules define, by module and qualified name; generated ones included."""
    found: dict[str, FunctionType] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        short = name.removeprefix("openai_metering.")
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == name:
                for attribute, member in vars(value).items():
                    function = unwrapped(member)
                    if function is not None and _ours(function):
                        found[f"{short}:{value.__qualname__}.{attribute}"] = function
            else:
                function = unwrapped(value)
                if function is not None and function.__module__ == name:
                    found[f"{short}:{function.__qualname__}"] = function
    return found


def _ours(function: FunctionType) -> bool:
    """Whether a method is ours, or was generated for a class of ours, and not inherited or borrowed."""
    return (
        function.__module__.startswith(("openai_metering", "namedtuple_"))
        or "dataclass" in function.__code__.co_filename
    )


def forget_everything() -> None:
    """Empty every cache, so that no remembered answer hides a broken function."""
    from openai_metering import masking
    from openai_metering.seams import servers

    sys.modules["openai_metering.resolution"]._read_before.clear()
    masking._harmless.clear()
    masking._harmless_credentials.clear()
    servers._seen.clear()
    for name in MODULES:
        for value in vars(importlib.import_module(name)).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def broken_code(function: FunctionType, name: str) -> CodeType:
    """Code that takes any arguments, notes that it was reached, and raises; closes over what the function closes over."""
    cells = function.__code__.co_freevars
    lines = [
        f"def factory({', '.join(cells)}):",
        "    def broken(*args, **kwargs):",
        f"        {', '.join(cells) or 'None'}",
        f"        __import__('breaking').reached.append({name!r})",
        "        raise RuntimeError('injected')",
        "    return broken",
    ]
    made: dict[str, Any] = {}
    exec("\n".join(lines), made)
    code: CodeType = made["factory"](*cells).__code__
    return code


@contextlib.contextmanager
def broken(name: str, function: FunctionType) -> Iterator[None]:
    """Let a function raise for as long as the block runs, through every reference to it."""
    code = function.__code__
    reached.clear()
    forget_everything()
    function.__code__ = broken_code(function, name)
    try:
        yield
    finally:
        function.__code__ = code
        forget_everything()
