"""What the installed SDK can send: each method of each resource, and the HTTP operations that its source names."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openai._resource import AsyncAPIResource, SyncAPIResource

if TYPE_CHECKING:
    from collections.abc import Iterator

WEBSOCKET = "websocket_connection_options"
VERBS = {
    "_get": "GET",
    "_post": "POST",
    "_put": "PUT",
    "_patch": "PATCH",
    "_delete": "DELETE",
    "_get_api_list": "GET",
}


@dataclass(frozen=True)
class Method:
    """A method of a resource."""

    owner: str
    """The resource by its module, which the asynchronous twin shares: ``chat.completions.completions.Completions``."""
    name: str
    asynchronous: bool
    public: bool
    websocket: bool
    sends: int
    """How often its source names a verb."""
    requests: frozenset[tuple[str, str]]
    """HTTP method and path, with ``{}`` for each segment that is filled in; without the query."""

    @property
    def view(self) -> bool:
        """Whether it is no method but a property: a resource below this one, or a view of it."""
        resource = _resource(self.owner, asynchronous=self.asynchronous)
        return not inspect.isfunction(inspect.getattr_static(resource, self.name))

    @property
    def label(self) -> str:
        return f"{'Async ' if self.asynchronous else ''}{self.owner}.{self.name}"


def _resource(owner: str, *, asynchronous: bool) -> Any:
    """The class of a resource by its name here."""
    module, _, name = owner.rpartition(".")
    return getattr(importlib.import_module(f"openai.resources.{module}"), f"{'Async' if asynchronous else ''}{name}")


def methods() -> list[Method]:
    """Every method of every resource class, nested and lazily imported ones too."""
    found: list[Method] = []
    for module in modules():
        tree = ast.parse(inspect.getsource(module))
        constants = _strings(tree)
        for node in tree.body:
            kind = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
            if isinstance(kind, type) and issubclass(kind, (SyncAPIResource, AsyncAPIResource)):
                found += _of_class(module.__name__, node, issubclass(kind, AsyncAPIResource), constants)
    return found


def modules() -> Iterator[Any]:
    """Every module below ``openai.resources``."""
    package = importlib.import_module("openai.resources")
    yield package
    for info in pkgutil.walk_packages(package.__path__, "openai.resources."):
        yield importlib.import_module(info.name)


def sends() -> int:
    """How often the source of the resources names a verb: what ``methods()`` must find."""
    return sum(len(re.findall(rf"\bself\.(?:{'|'.join(VERBS)})\b", inspect.getsource(module))) for module in modules())


def _of_class(module: str, node: ast.ClassDef, asynchronous: bool, constants: dict[str, str]) -> list[Method]:
    owner = f"{module.removeprefix('openai.resources.')}.{node.name.removeprefix('Async')}"
    named: dict[str, list[Any]] = {}
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            named.setdefault(item.name, []).append(item)
    found = []
    for name, items in named.items():
        sent = [request for item in items for request in _requests(item, constants)]
        websocket = any(WEBSOCKET in _parameters(item) for item in items)
        found.append(Method(owner, name, asynchronous, not name.startswith("_"), websocket, len(sent), frozenset(sent)))
    return found


def _parameters(function: Any) -> set[str]:
    given = function.args
    return {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def _requests(function: Any, constants: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The HTTP operations that a function's own source names."""
    known = {**constants, **_strings(function)}
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        verb, arguments = _verb(call.func), call.args
        if verb is None and arguments:  # a verb that is handed on: `partial(self._post, path, ...)`
            verb, arguments = _verb(arguments[0]), arguments[1:]
        if verb is None:
            continue
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        method = ast.literal_eval(keywords["method"]).upper() if "method" in keywords else VERBS[verb]
        yield method, _template(arguments[0] if arguments else keywords["path"], known).partition("?")[0]


def _verb(node: ast.expr) -> str | None:
    """The verb that an expression names: ``_post`` of ``self._post``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr if node.attr in VERBS else None
    return None


def _template(node: ast.expr, known: dict[str, str]) -> str:
    """A path as a template, of whatever expression it is."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part, known) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "path_template":
        return "/".join("{}" if part.startswith("{") else part for part in _template(node.args[0], known).split("/"))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left, known) + _template(node.right, known)
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    raise NotImplementedError(f"A path that the inventory cannot derive: {ast.unparse(node)}")


def _strings(scope: Any) -> dict[str, str]:
    """The names in a module or function that stand for paths."""
    found: dict[str, str] = {}
    for node in scope.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = _template(node.value, found)
            except NotImplementedError:
                continue
    return found
