"""What was replaced in the SDK, and how it was before."""

from __future__ import annotations

from typing import Any, Final

import wrapt

_WRAPPERS: Final = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)
"""The base of all of wrapt's wrappers, by its name before 2.0 and since."""


class Patches:
    """Replaces attributes of the SDK's classes and puts the SDK's own objects back.

    A replacement goes beneath what other packages have wrapped around the SDK's own function. So the order in which
    packages are switched on makes no difference, and none of them takes off another's wrapper with its own:
    OpenTelemetry's ``unwrap()`` takes off the outermost, whoever's it is.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []
        self._replaced: set[tuple[Any, str]] = set()

    def has(self, owner: Any, name: str) -> bool:
        """Whether an attribute was replaced already."""
        return (owner, name) in self._replaced

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Put a replacement in the place of an attribute that the class, or module, itself defines."""
        wrapper, original = _inside(vars(owner)[name])
        if wrapper is None:
            setattr(owner, name, replacement)
            replacement = vars(owner)[name]
        else:
            wrapper.__wrapped__ = replacement
        self._undo.append((owner, name, original, replacement))
        self._replaced.add((owner, name))

    def add(self, owner: Any, name: str, value: Any) -> None:
        """Add an attribute that the class itself does not define."""
        if name in vars(owner):
            self.replace(owner, name, value)
            return
        setattr(owner, name, value)
        self._undo.append((owner, name, None, vars(owner)[name]))

    def undo(self) -> None:
        """Put everything back, beneath what others have wrapped around it; what replaced it since is theirs and stays."""
        self._replaced.clear()
        while self._undo:
            owner, name, original, ours = self._undo.pop()
            found = _own(vars(owner).get(name))
            if found is not ours:
                wrapper = _around(found, ours)
                if wrapper is not None:
                    wrapper.__wrapped__ = original
            elif original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def inside(owner: Any, name: str) -> Any:
    """What a class, or module, itself defines under a name, without what other packages have wrapped around it."""
    return _inside(vars(owner)[name])[1]


def _inside(found: Any) -> tuple[Any, Any]:
    """The innermost wrapper, ``None`` where there is none, and what is in it."""
    wrapper, found = None, _own(found)
    while _is_wrapper(found):
        wrapper, found = found, _own(found.__wrapped__)
    return wrapper, found


def _around(found: Any, ours: Any) -> Any:
    """The wrapper that holds a replacement of ours, ``None`` where it is not in there."""
    while _is_wrapper(found):
        inner = _own(found.__wrapped__)
        if inner is ours:
            return found
        found = inner
    return None


def _own(found: Any) -> Any:
    """The wrapper of which ``unwrap()`` has left a view in a class that is bound to the class."""
    while issubclass(type(found), wrapt.BoundFunctionWrapper):
        found = found._self_parent  # noqa: SLF001
    return found


def _is_wrapper(found: Any) -> bool:
    # By type: a wrapper claims the class of what it wraps.
    return issubclass(type(found), _WRAPPERS)
