"""Wrappers around methods of the SDK that can be copied and pickled as the methods themselves can."""

from __future__ import annotations

import copy
import importlib
import operator
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = wrapt.FunctionWrapper[Any, Any]
    Bound = wrapt.BoundFunctionWrapper[Any, Any]
else:
    Function, Bound = wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper  # generic from wrapt 2.0 on


_new: Final[Any] = Bound.__new__


def _found(module: str, name: str) -> Any:
    """What a module calls by a dotted name."""
    return operator.attrgetter(name)(importlib.import_module(module))


class BoundMethod(Bound):
    """A wrapped method of an object, or of a class where it is looked up there."""

    # `weakref.WeakMethod` makes a method anew by its type, from a function and an object: 0.14 us for each look-up.
    def __new__(cls, wrapped: Any, instance: Any, *made: Any) -> Any:
        """Make a wrapper, or of a function and an object alone the method that it was."""
        if made:
            return _new(cls)
        return MethodType(wrapped.__get__(None, type(instance)), instance)

    @property
    def __func__(self) -> Any:
        """What is bound."""
        return self._self_parent

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance = self._self_instance
        return self if instance is None else getattr(copy.deepcopy(instance, memo), self.__name__)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        instance = self._self_instance
        if instance is None:
            return _found, (self.__module__, self.__qualname__)
        return getattr, (instance, self.__name__)

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        del protocol
        return self.__reduce__()


class Method(Function):
    """A wrapped method as its class defines it."""

    __bound_function_wrapper__ = BoundMethod

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        del memo
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _found, (self.__module__, self.__qualname__)

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        del protocol
        return self.__reduce__()
