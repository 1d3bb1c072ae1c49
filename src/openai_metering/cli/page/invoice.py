"""What one organization used in one month, as a page to print and send."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from openai_metering.cli.grouping import GROUPED_KINDS, Row, Sum, total_of
from openai_metering.cli.page.numbers import LABELS, MISSING
from openai_metering.cli.page.words import unknown, unpriced
from openai_metering.cli.shaping import in_money
from openai_metering.pricing.amounts import at_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from decimal import Decimal
    from typing import TextIO

    from openai_metering.cli.grouping import Report

FOLDER: Final = Path(__file__).parent
PLACES: Final = 2
_FINE: Final = 6
_What: TypeAlias = Literal["price", "cost"] | None


@dataclass(frozen=True, slots=True)
class Invoice:
    """What stands on the page."""

    report: Report
    """Of the organization and month alone, with names."""
    organization: str
    name: str
    kind: str
    references: Sequence[tuple[str, str]]
    """Its ids in other systems."""
    zone: str
    made: str
    notes: Sequence[str]


def write_invoice(invoice: Invoice, stream: TextIO) -> None:
    """Write the page; it has no script, and asks for nothing outside of it."""
    report = invoice.report
    amounts = in_money(report)
    priced = report.total.money.price is not None
    what: _What = None if not amounts else "price" if priced else "cost"
    grouped = [row for row in report.rows if row.kind in GROUPED_KINDS]
    lacking = [*_lacking(report, what)]
    whole = total_of(grouped)
    labels = _labels(report, what)
    titles = [*report.columns, *labels]
    facts = [
        ("Organization" if invoice.kind == "organization" else "Account", invoice.organization),
        *invoice.references,
        ("Month", report.period or ""),
        ("Time zone", invoice.zone),
        ("Made on", invoice.made),
    ]
    template = Template((FOLDER / "invoice.html").read_text("utf-8"))
    stream.write(
        template.substitute(
            title=_text(f"{invoice.name}, {report.period}"),
            name=_text(invoice.name),
            facts="".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts),
            total=_text(
                _amount(whole, what, PLACES) + f" {report.currency}"
                if what
                else f"{whole.tokens.input + whole.tokens.output:,} tokens"
            ),
            basis=_text(_basis(what, whole)),
            head="".join(
                f'<th scope="col"{" class=number" if place >= len(report.columns) else ""}>{_text(title)}</th>'
                for place, title in enumerate(titles)
            ),
            body="".join(_lines(grouped, len(report.columns), what, labels)),
            foot=_line(("total",), len(report.columns), whole, what, labels, kind="total", places=PLACES),
            lacking="".join(lacking) or "<li>Nothing.</li>",
            notes="".join(f"<li>{_text(note)}</li>" for note in invoice.notes),
        )
    )


def _labels(report: Report, what: _What) -> list[str]:
    amount = [] if what is None else [f"{what}, {report.currency}"]
    return ["calls", "input tokens", "output tokens", *amount]


def _basis(what: _What, whole: Sum) -> str:
    if what is None:
        return "Usage without amounts."
    basis = "At the prices agreed." if what == "price" else "At what the provider asks, without surcharge."
    return f"{basis} Not all that was used has a price: see below." if _lacks(whole, what) else basis


def _lines(rows: Sequence[Row], depth: int, what: _What, labels: Sequence[str]) -> Iterator[str]:
    """Write each group, and the sum of each of the first column that has several."""
    for place, row in enumerate(rows):
        above = rows[place - 1].cells if place else ()
        cells = tuple(MISSING if cell is None else cell for cell in row.cells)
        marks = ["estimated"] if row.kind == "estimated" else []
        if what is not None and _lacks(row, what):
            marks.append("not priced" if getattr(row.money, what) is None else "not all of it priced")
        cells = (*cells[:-1], f"{cells[-1]} ({', '.join(marks)})") if marks else cells
        yield _line(_unrepeated(cells, row.cells, above), depth, row, what, labels, kind="line", places=_FINE)
        last = place + 1 == len(rows) or rows[place + 1].cells[0] != row.cells[0]
        own = [other for other in rows if other.cells[0] == row.cells[0]] if last else []
        if len(own) > 1:
            yield _line((f"{cells[0]}, all",), depth, total_of(own), what, labels, kind="sum", places=_FINE)


def _unrepeated(cells: tuple[str, ...], own: Sequence[str | None], above: Sequence[str | None]) -> tuple[str, ...]:
    """Leave blank what the line above already says, but for the last cell."""
    same = next(
        (place for place, pair in enumerate(zip(own[:-1], above, strict=False)) if pair[0] != pair[1]), len(own) - 1
    )
    return ("",) * (same if above else 0) + cells[same if above else 0 :]


def _line(
    cells: Iterable[str], depth: int, row: Row | Sum, what: _What, labels: Sequence[str], *, kind: str, places: int
) -> str:
    cells = tuple(cells)
    span = depth - len(cells) + 1
    names = [
        f'<th scope="row"{f" colspan={span}" if span > 1 and place + 1 == len(cells) else ""}>{_name(cell)}</th>'
        for place, cell in enumerate(cells)
    ]
    tokens = row.tokens
    numbers = [f"{row.calls:,}", *(("?", "?") if tokens is None else (f"{tokens.input:,}", f"{tokens.output:,}"))]
    if what is not None:
        numbers.append(_amount(row, what, places))
    tds = (
        f'<td data-label="{_text(label)}">{_text(number)}</td>' for label, number in zip(labels, numbers, strict=True)
    )
    return f'<tr class="{kind}">{"".join(names)}{"".join(tds)}</tr>'


def _amount(row: Row | Sum, what: Literal["price", "cost"], places: int) -> str:
    value: Decimal | None = getattr(row.money, what)
    if value is None:
        return "?" if _lacks(row, what) else MISSING
    return at_places(value, places)


def _lacks(row: Row | Sum, what: Literal["price", "cost"]) -> int:
    return row.money.price_lacks if what == "price" else row.money.cost_lacks


def _lacking(report: Report, what: _What) -> Iterator[str]:
    """Say what is not in the total, or not all of it, and why."""
    for row in report.rows:
        if row.kind not in GROUPED_KINDS:
            reasons = "; ".join(f"{unknown(reason)}: {count:,}" for reason, count in row.reasons.items())
            yield _item(row.calls, LABELS[row.kind] + (f" ({reasons})" if reasons else ""))
    for lack in report.lacking:
        if lack.amount == what and lack.reason != "usage_unknown":
            tokens = f"{lack.tokens.input:,} input and {lack.tokens.output:,} output tokens"
            known = "priced in part; the total has the part that is known" if lack.part else "not priced"
            yield _item(lack.calls, f"{tokens}, {known} ({unpriced(lack.reason, lack.units)})")


def _item(calls: int, text: str) -> str:
    return f"<li>{calls:,} {'call' if calls == 1 else 'calls'}: {_text(text)}</li>"


def _name(text: str) -> str:
    """Write a name so that an e-mail address breaks behind its signs, where it has to."""
    return re.sub(r"([@.])(?=.)", r"\1<wbr>", _text(text)) if "@" in text else _text(text)


def _text(text: str) -> str:
    return html.escape(text)
