"""Every way in which a table of ours is broken on purpose, one at a time: rows, shapes, jobs and readers."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import breaking

from openai_metering import job_readers, jobs, operations, readers, shapes
from openai_metering.operations import CALLS, Operation
from openai_metering.usage import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Mutant:
    """One thing that is broken.

    Args:
        name: what is broken, and how.
        change: breaks it, and returns what repairs it.
        row: the row that it is about, where it is one.
    """

    name: str
    change: Callable[[], Callable[[], None]]
    row: str | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Break it for as long as the block runs."""
        repair = self.change()
        breaking.forget_everything()  # what is remembered of a row would hide that it is broken
        try:
            yield
        finally:
            repair()
            breaking.forget_everything()


def mutants() -> list[Mutant]:
    """All of them; their names differ."""
    found = [*_of_rows(), *_of_shapes(), *_of_jobs(), *_of_events(), *_of_readers()]
    assert len({mutant.name for mutant in found}) == len(found)
    return found


# -- Rows ------------------------------------------------------------------------------------------------------------

NOT_BROKEN = {
    "job": "what a job's sights show is broken in its own entries",
    "of": "is that of a sight",
    "names_job": "is about jobs, which test_jobs.py is about",
    "starts": "is about jobs, which test_jobs.py is about",
}
"""Fields of a row that are left alone, and why."""


def _of_rows() -> Iterator[Mutant]:
    for place, row in enumerate(CALLS):
        neighbours = [*CALLS[place + 1 :], *CALLS[:place]]
        for field in dataclasses.fields(Operation):
            if field.name not in NOT_BROKEN:
                for how, value in _broken(row, field.name, neighbours):
                    yield Mutant(f"row {row.name}: {field.name} {how}", _field_of_row(row, field.name, value), row.name)


def _broken(row: Operation, field: str, neighbours: list[Operation]) -> Iterator[tuple[str, Any]]:
    """Other values of a field of a row, each with what it is."""
    value = getattr(row, field)
    if field in ("read", "observe"):
        if value is not None:
            others = [getattr(one, field) for one in neighbours]
            yield "is a neighbour's", next(other for other in others if other is not None and other != value)
            yield "does nothing", _nothing
        if field == "observe" and value is not None:
            yield "is missing", None
    elif isinstance(value, bool):
        yield "is flipped", not value
    elif isinstance(value, str):
        yield "is another", "PUT" if field == "method" else f"{value}_x"
    elif isinstance(value, frozenset):
        for one in sorted(value):
            yield f"lacks {one}", value - {one}
    elif isinstance(value, tuple):
        for one in value:
            yield f"lacks {one[0]}", tuple(other for other in value if other is not one)
            renamed = tuple(
                (name, f"{attribute}_x") if (name, attribute) == one else (name, attribute) for name, attribute in value
            )
            yield f"renames {one[0]}", renamed
    elif field == "api_type":
        yield "is there", "x"
    elif field == "estimate" and value is not None:
        yield "is missing", None


def _nothing(answer: Any, body: Any) -> None:
    del body
    answer.finished = True


def _field_of_row(row: Operation, field: str, value: Any) -> Callable[[], Callable[[], None]]:
    def set_to(new: Any) -> None:
        operations.remove(row)
        object.__setattr__(row, field, new)
        operations.add(row)

    def change() -> Callable[[], None]:
        before = getattr(row, field)
        set_to(value)
        return lambda: set_to(before)

    return change


# -- Shapes ----------------------------------------------------------------------------------------------------------


def _of_shapes() -> Iterator[Mutant]:
    seen: set[int] = set()

    def of_shape(shape: Shape, where: str) -> Iterator[Mutant]:
        if id(shape) in seen:
            return
        seen.add(id(shape))
        for name, row in shape.rows.items():
            if isinstance(row, Shape):
                yield Mutant(f"shape {where}.{name} is missing", _entry(shape, name, None, None))
                yield from of_shape(row, f"{where}.{name}")
            elif row is not None:
                yield Mutant(f"shape {where}.{name} is read from another key", _entry(shape, name, f"{name}_x", row))
                yield Mutant(f"shape {where}.{name} has another attribute", _entry(shape, name, name, _renamed(row)))
            else:
                yield Mutant(f"shape {where}.{name} is not known", _entry(shape, name, None, None))

    for name, value in vars(shapes).items():
        if isinstance(value, Shape) and not name.startswith("_"):
            yield from of_shape(value, name)


def _renamed(row: Any) -> Any:
    return f"{row}_x" if isinstance(row, str) else dataclasses.replace(row, attribute=f"{row.attribute}_x")


def _entry(shape: Shape, name: str, key: str | None, row: Any) -> Callable[[], Callable[[], None]]:
    """An entry of a shape under another key, with another attribute, or not at all."""

    def change() -> Callable[[], None]:
        before = dict(shape.rows)
        rows: Any = shape.rows
        del rows[name]
        if key is not None:
            rows[key] = row

        def repair() -> None:
            rows.clear()
            rows.update(before)

        return repair

    return change


# -- Jobs, and the types of events -----------------------------------------------------------------------------------


def _of_jobs() -> Iterator[Mutant]:
    for name, job in vars(jobs).items():
        if isinstance(job, jobs.Job):
            for status in sorted(job.ended):
                yield Mutant(f"job {name} does not end with {status}", _attribute(job, "ended", job.ended - {status}))
            yield Mutant(f"job {name} has its id elsewhere", _attribute(job, "id", f"{job.id}_x"))
            yield Mutant(f"job {name} has its status elsewhere", _attribute(job, "status", f"{job.status}_x"))
            yield Mutant(f"job {name} reads no usage", _attribute(job, "usage", lambda answer, body: None))


def _attribute(holder: Any, name: str, value: Any) -> Callable[[], Callable[[], None]]:
    def change() -> Callable[[], None]:
        before = getattr(holder, name)
        put = object.__setattr__ if isinstance(holder, jobs.Job) else setattr
        put(holder, name, value)
        return lambda: put(holder, name, before)

    return change


def _of_events() -> Iterator[Mutant]:
    for module in (readers, job_readers):
        for name, value in vars(module).items():
            if isinstance(value, frozenset):
                for kind in sorted(value):
                    yield Mutant(f"{name} lacks {kind}", _attribute(module, name, value - {kind}))


# -- Readers: each name that they look for ---------------------------------------------------------------------------


def _of_readers() -> Iterator[Mutant]:
    tables = {**vars(readers), **vars(job_readers)}
    functions = {name: value for name, value in tables.items() if isinstance(value, FunctionType)}
    functions["Job.read"] = jobs.Job.read
    for name, function in functions.items():
        if function.__module__ in (readers.__name__, job_readers.__name__, jobs.__name__):
            for text in sorted(_texts(function.__code__) - {function.__doc__}):
                yield Mutant(f"reader {name} looks for another name than {text!r}", _code(function, text))


def _texts(code: CodeType) -> set[str]:
    found: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, CodeType):
            found |= _texts(constant)
        elif isinstance(constant, (tuple, frozenset)):
            found |= {one for one in constant if isinstance(one, str)}
    return {text for text in found if "<locals>" not in text}


def _code(function: FunctionType, text: str) -> Callable[[], Callable[[], None]]:
    def change() -> Callable[[], None]:
        before = function.__code__
        function.__code__ = _with_another(before, text)
        return lambda: setattr(function, "__code__", before)

    return change


def _with_another(code: CodeType, text: str) -> CodeType:
    def other(constant: Any) -> Any:
        if isinstance(constant, str) and constant == text:
            return f"{text}_x"
        if isinstance(constant, CodeType):
            return _with_another(constant, text)
        if isinstance(constant, (tuple, frozenset)):
            return type(constant)(map(other, constant))
        return constant

    # The docstring is the first constant, and the same text within it stands apart.
    return code.replace(co_consts=tuple(map(other, code.co_consts)))
