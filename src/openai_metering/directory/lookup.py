"""The one lookup table that the Collector reloads: credential, subscriber, organization."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from openai_metering.directory.resolve import resolve
from openai_metering.directory.schema import CREDENTIAL

if TYPE_CHECKING:
    from openai_metering.directory.checks import Tables

HEADER: Final = ("credential", "subscriber", "organization")


def lookup(tables: Tables, time: int) -> tuple[str, int]:
    """Compile a directory.

    Args:
        tables: the three tables, by kind.
        time: the moment for which the table is to hold, in nanoseconds since 1970.

    Returns:
        The text of the table, and how many credentials it has. A cell is blank where the directory does not say one
        value: the subscriber of a credential that several share.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    count = 0
    for entry in tables[CREDENTIAL].entries():
        if entry.valid(time):
            who = resolve(tables, credential=entry.id, time=time)
            writer.writerow((who.credential, who.subscriber or "", who.organization or ""))
            count += 1
    return stream.getvalue(), count
