"""A report for people: a table in the terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, TypeAlias

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openai_metering.cli.grouping import GROUPED_KINDS, Row, subtotals
from openai_metering.cli.notes import footnotes, visible
from openai_metering.cli.shaping import in_money, size_of
from openai_metering.pricing.amounts import at_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from decimal import Decimal
    from typing import TextIO

    from openai_metering.cli.grouping import Kind, Report, Sum

MISSING: Final = "-"
UNKNOWN: Final = "?"
NUMBERS: Final = ("calls", "input", "of which\ncached", "output", "of which\nreasoning")
_PARTS: Final = (2, 4)  # of these, those that the others contain
LABELS: Final[dict[Kind, str]] = {
    "others": "others",
    "unattributed": "unattributed",
    "unknown": "usage unknown",
    "not_billed": "not billed",
}

_WIDE: Final = 100_000  # piped: as wide as the names are
_NARROWEST_NAME: Final = 12
_GAP: Final = 2
_INDENT: Final = "  "

Cells: TypeAlias = "tuple[str | None, ...]"
_Line: TypeAlias = "tuple[tuple[Text | Padding, ...], tuple[str, ...], str]"  # names, numbers, style


def write_table(report: Report, stream: TextIO) -> None:
    """Write the report for a person.

    On a terminal the names of a group stand side by side, or below each other when they would not fit. A pipe or file
    gets them side by side, as wide as they are and without colours.
    """
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        _print(report, console)
        return
    console = Console(file=io.StringIO(), highlight=False, width=_WIDE, color_system=None, force_terminal=False)
    with console.capture() as captured:
        _print(report, console)
    stream.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _print(report: Report, console: Console) -> None:
    console.print(view(report, console))


def view(report: Report, console: Console) -> Group:
    """Return the report as it fits a terminal.

    Where names do not fit side by side they stand below each other, and where that is still too wide the parts of the
    tokens are left out. A terminal that is narrower than what is left is widened: else digits would be cut off.
    """
    notes = list(footnotes(report))
    table = _table(report, [visible(name) for name in report.columns], _side_by_side)
    if Measurement.get(console, console.options, table).maximum >= console.width:
        stacked = "\n".join(_INDENT * level + visible(name) for level, name in enumerate(report.columns))
        left_out = () if _narrowest(report) <= console.width else _PARTS
        table = _table(report, [stacked], _stacked, left_out)
        console.width = max(console.width, _narrowest(report, left_out))
        if left_out:
            notes.append("Cached and reasoning tokens have no room here: widen the terminal, or use another --format.")
    return Group(table, *(Text(note, style="dim") for note in notes))


def _table(
    report: Report,
    titles: Sequence[str],
    lines_of: Callable[[Report, Row, Cells], Iterator[_Line]],
    left_out: Sequence[int] = (),
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold"
    )
    for title in titles:
        table.add_column(Text(title), overflow="fold", vertical="bottom")
    for title in _without(_titles(report), left_out):
        table.add_column(title, justify="right", no_wrap=True, vertical="bottom")
    for names, numbers, style in _lines(report, lines_of):
        table.add_row(*names, *[""] * (len(titles) - len(names)), *_without(numbers, left_out), style=style)
    return table


def _without(columns: Sequence[str], left_out: Sequence[int]) -> list[str]:
    return [column for place, column in enumerate(columns) if place not in left_out]


def _lines(report: Report, lines_of: Callable[[Report, Row, Cells], Iterator[_Line]]) -> Iterator[_Line]:
    sums = subtotals(report)
    before: Cells = ()
    grouped = [row for row in report.rows if row.kind in GROUPED_KINDS]
    for row, following in zip(grouped, [*grouped[1:], None], strict=False):  # without rows: without a following one
        yield from lines_of(report, row, before)
        before = row.cells
        own = sums.get(row.cells[0])
        if own is not None and (following is None or following.cells[0] != row.cells[0]):
            yield _line(report, "subtotal", own, "italic")
            if following is not None:
                yield _BLANK
                before = ()
    if grouped:
        yield _BLANK
    for row in report.rows:
        if row.kind not in GROUPED_KINDS:
            yield _line(report, LABELS[row.kind], row, "")
    if len(grouped) < len(report.rows):
        yield _BLANK
    yield _line(report, "total", report.total, "bold")


def _side_by_side(report: Report, row: Row, before: Cells) -> Iterator[_Line]:
    """Name the group in one line; what the line above already says is left blank, except in the last column."""
    same = _same(row.cells, before)
    names = [Text() if level < same else Text(_name(cell)) for level, cell in enumerate(row.cells)]
    names[-1] = Text(_last_name(row))
    yield tuple(names), _numbers(report, row), ""


def _stacked(report: Report, row: Row, before: Cells) -> Iterator[_Line]:
    """Name each level in a line of its own, indented; a level that is still the same is not named again."""
    last = len(row.cells) - 1
    for level in range(_same(row.cells, before), last):
        yield (_indented(_name(row.cells[level]), level),), (), ""
    yield (_indented(_last_name(row), last),), _numbers(report, row), ""


def _indented(name: str, level: int) -> Padding:
    """Indent a name, also where it goes on in the next line."""
    return Padding(Text(name, overflow="fold"), (0, 0, 0, len(_INDENT) * level), expand=False)


def _same(cells: Cells, before: Cells) -> int:
    """Count the leading cells, without the last, that are those of the row before."""
    count = 0
    for cell, other in zip(cells[:-1], before, strict=False):
        if cell != other:
            break
        count += 1
    return count


def _name(cell: str | None) -> str:
    return MISSING if cell is None else visible(cell)


def _last_name(row: Row) -> str:
    name = _name(row.cells[-1])
    return f"{name} (estimated)" if row.kind == "estimated" else name


def _line(report: Report, label: str, row: Row | Sum, style: str) -> _Line:
    return (Text(label, overflow="fold"),), _numbers(report, row), style


def _titles(report: Report) -> tuple[str, ...]:
    beside = () if report.before is None else (f"{_measure(report)}\nbefore", "change")
    budget = ("budget", "of it\nused") if _has_budget(report) else ()
    if not in_money(report):
        return (*NUMBERS, *beside)
    price = (f"price\n{report.currency}",) if report.total.money.price is not None else ()
    unpriced = ("calls\nunpriced",) if report.total.money.unpriced else ()
    return (*NUMBERS, f"cost\n{report.currency}", *price, *unpriced, *beside, *budget)


def _measure(report: Report) -> str:
    """What is set beside the period before."""
    if not in_money(report):
        return "tokens"
    return "cost" if report.total.money.price is None else "price"


def _has_budget(report: Report) -> bool:
    return any(row.budget is not None for row in report.rows)


def _beside(report: Report, row: Row | Sum) -> tuple[str, ...]:
    """The period before and the budget."""
    found: list[str] = []
    money = in_money(report)
    own = size_of(row, money=money)
    if report.before is not None:
        before = row.before if isinstance(row, Row) else report.before if row is report.total else None
        if before is None or row.tokens is None:
            found += [UNKNOWN if row.tokens is None else MISSING] * 2
        else:
            old = size_of(before, money=money)
            found += [at_places(old, 6) if money else f"{old:,}", percent(own - old, old, sign=True)]
    if _has_budget(report):
        budget = row.budget if isinstance(row, Row) else None
        found += [MISSING] * 2 if budget is None else [f"{budget:,}", percent(own, budget)]
    return tuple(found)


def percent(part: Decimal, whole: Decimal, *, sign: bool = False) -> str:
    """Write a share for people; ``new`` where there was nothing before.

    Args:
        part: the share, or the change.
        whole: of what.
        sign: whether a plus is written.
    """
    if not whole:
        return MISSING if not part else "new" if sign else "over"
    return f"{100 * part / whole:{'+' if sign else ''},.1f} %"


def _numbers(report: Report, row: Row | Sum) -> tuple[str, ...]:
    tokens, money = row.tokens, row.money
    counts: tuple[str, ...] = (UNKNOWN,) * 4
    if tokens is not None:
        counts = tuple(f"{count:,}" for count in (tokens.input, tokens.cached, tokens.output, tokens.reasoning))
    if not in_money(report):
        return (f"{row.calls:,}", *counts, *_beside(report, row))
    total = report.total.money
    price = (_amount(money.price, money.unpriced),) if total.price is not None else ()
    unpriced = (f"{money.unpriced:,}",) if total.unpriced else ()
    return (f"{row.calls:,}", *counts, _amount(money.cost, money.unpriced), *price, *unpriced, *_beside(report, row))


def _amount(value: Decimal | None, unpriced: int) -> str:
    if value is None:
        return UNKNOWN if unpriced else MISSING
    return at_places(value, 6)


def _narrowest(report: Report, left_out: Sequence[int] = ()) -> int:
    total = _without(_numbers(report, report.total), left_out)  # no number in a column is longer than its total
    titles = _without(_titles(report), left_out)
    numbers = sum(max(len(number), *map(len, title.split("\n"))) for number, title in zip(total, titles, strict=True))
    names = max(_NARROWEST_NAME, *(len(_INDENT) * level + len(name) for level, name in enumerate(report.columns)))
    return names + numbers + _GAP * len(titles)


_BLANK: Final[_Line] = ((), (), "")
