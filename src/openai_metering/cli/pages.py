"""From what a report is about to its HTML pages: the whole of it, or an invoice for one organization and month."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

from openai_metering.cli.asked import budgets_of_page
from openai_metering.cli.columns import ACCOUNT, COLUMNS, ORGANIZATION, SUBSCRIBER
from openai_metering.cli.failure import Failure
from openai_metering.cli.gathering import made, narrowed
from openai_metering.cli.notes import footnotes
from openai_metering.cli.page.build import Content, write_page
from openai_metering.cli.page.invoice import Invoice, write_invoice
from openai_metering.directory.schema import fold, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import TextIO

    from openai_metering.cli.asked import Asked
    from openai_metering.cli.gathering import Gathered
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.records import UsageRow


def write_page_of(
    args: argparse.Namespace, asked: Asked, rows: Sequence[UsageRow], report: Report, stream: TextIO
) -> None:
    """Write the page of a report.

    Args:
        args: those of the command line.
        asked: what the report is about.
        rows: its calls.
        report: their sums, without names.
        stream: where the page goes.

    Raises:
        Failure: budgets were named that the page has no place for.
    """
    hierarchy = asked.hierarchy
    budgets = budgets_of_page(args, asked, report)
    first = report.columns[0]
    if hierarchy is not None:
        report = hierarchy.named(report, columns=False)
        budgets = {hierarchy.label(first, name): budget for name, budget in budgets.items()}
    costs = asked.costs

    def name_of(column: str, cell: str) -> str:
        return cell if hierarchy is None else hierarchy.label(column, cell) or cell

    price = None if costs is None or report.currency is None else costs.of
    write_page(Content(report, rows, asked.zone, price, budgets, name_of, tuple(footnotes(report))), stream)


def write_invoice_of(args: argparse.Namespace, asked: Asked, gathered: Gathered, stream: TextIO) -> None:
    """Write the invoice of one organization, with all below it where it is an account of a directory.

    Args:
        args: those of the command line; ``invoice`` is the id, in any spelling.
        asked: what it is about, above all the month.
        gathered: every call there is.
        stream: where it goes.

    Raises:
        Failure: there is no such organization, or it used nothing then.
    """
    wanted = fold(args.invoice)
    own = [row for row in gathered.rows if wanted in {fold(one) for one in (row.account, row.organization) if one}]
    if not own:
        import difflib  # noqa: PLC0415 - of use for the message alone

        known = {fold(row.organization): row.organization for row in gathered.rows if row.organization}
        near = difflib.get_close_matches(wanted, known, 1)
        hint = f" Did you mean {known[near[0]]!r}?" if near else ""
        raise Failure(f"no call is of the organization {shown(args.invoice)}.{hint}")
    rows, untimed = narrowed(replace(gathered, rows=own), asked.period, asked.filters)
    several = len({row.organization for row in rows}) > 1
    by = (*((ORGANIZATION,) if several else ()), SUBSCRIBER, "credential", "model")
    report = made(rows, [COLUMNS[name] for name in by], gathered, asked.costs)
    report = replace(report, untimed=untimed, bad_lines=0, period=str(asked.period))
    identity = next(one for row in own for one in (row.account, row.organization) if one and fold(one) == wanted)
    name, references = identity, []
    if asked.hierarchy is not None:
        report = asked.hierarchy.named(report, columns=False)
        entries = asked.hierarchy.tables[ORGANIZATION].of(identity)
        if entries:
            name = entries[-1].get("name") or identity
            references = [(key, value) for key, value in entries[-1].values.items() if key.startswith("external.")]
    is_account = any(row.account == identity != row.organization for row in rows)
    write_invoice(
        Invoice(
            report=report,
            organization=identity,
            name=name,
            kind=ACCOUNT if is_account else ORGANIZATION,
            references=tuple((key.partition(".")[2], value) for key, value in references),
            zone=str(asked.zone),
            made=dt.datetime.now(asked.zone).date().isoformat(),
            notes=tuple(footnotes(report, customer=True)),
        ),
        stream,
    )
