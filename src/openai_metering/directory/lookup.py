"""What others read of a directory: the lookup table of the Collector, and the key map of the library."""

from __future__ import annotations

import csv
import io
import json
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


def key_map(tables: Tables, time: int) -> tuple[str, int]:
    """Compile the map from fingerprints of keys to aliases, which the library takes as its key map.

    It has the alias alone: who is behind it may change while a process runs, and the table above and the report know.

    Args:
        tables: the three tables, by kind.
        time: the moment for which the map is to hold, in nanoseconds since 1970.

    Returns:
        The text of the map, JSON, and how many keys it has.
    """
    aliases = {
        fingerprint: entry.id
        for entry in tables[CREDENTIAL].entries()
        if (fingerprint := entry.get("fingerprint")) and entry.valid(time)
    }
    return f"{json.dumps(aliases, ensure_ascii=False, indent=0, sort_keys=True)}\n", len(aliases)
