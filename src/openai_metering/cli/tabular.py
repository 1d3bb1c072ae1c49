"""Usage records in tables: Parquet files, DuckDB files and ClickHouse, one row out per record."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.records import row_of
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openai_metering.cli.records import UsageRow

TABLE: Final = "usage"
"""The table of a DuckDB file that is read where none is named."""
PASSWORD: Final = "CLICKHOUSE_PASSWORD"  # noqa: S105 - the variable's name
_PORT: Final = 8123
_BATCH: Final = 10_000
_TIMEOUT: Final = 60.0
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAPS: Final = ("LogAttributes", "attributes")
_TIMES: Final = ("timeUnixNano", "time_unix_nano", "Timestamp", "timestamp")
_EVENTS: Final = ("EventName", "eventName", "event_name")
_COUNTS: Final = frozenset({c.INPUT_TOKENS, c.CACHE_READ_INPUT_TOKENS, c.OUTPUT_TOKENS, c.REASONING_OUTPUT_TOKENS})


@dataclass(frozen=True, slots=True)
class Source:
    """A table of usage records: each row is one.

    Its attributes stand in one column ``LogAttributes`` or ``attributes`` (a map, or JSON), as the Collector's ClickHouse
    exporter writes them, or each in a column of its own name. The time is nanoseconds since 1970 in ``timeUnixNano``, or
    ``Timestamp``.
    """

    kind: str
    """``parquet``, ``duckdb`` or ``clickhouse``."""
    place: str
    table: str = ""

    @property
    def name(self) -> str:
        """What messages call it, without who asks."""
        return self.place if not self.table else f"{self.place} table {self.table}"


def source_of(path: str) -> Source | None:
    """Return the table that a path or URL names; ``None`` where it is a file of lines, or a folder.

    Args:
        path: ``*.parquet``; ``*.duckdb`` or ``duckdb:FILE``, with ``#table`` behind it where it is not ``usage``;
            ``clickhouse://[user@]host[:port]/database/table``, or ``clickhouse+https://``.

    Raises:
        Failure: it is a URL of another kind, or lacks a part.
    """
    if path.startswith(("clickhouse://", "clickhouse+https://")):
        parts = urllib.parse.urlsplit(path)
        names = [part for part in parts.path.split("/") if part]
        if parts.hostname is None or len(names) != 2 or not all(map(_NAME.fullmatch, names)):  # noqa: PLR2004 - two names
            raise Failure(
                "a ClickHouse table is clickhouse://[user@]host[:port]/database/table, such as .../default/otel_logs."
            )
        if parts.password is not None:
            raise Failure(f"no password in the URL: it would show in the list of processes. Set {PASSWORD}.")
        return Source("clickhouse", path, ".".join(names))
    if "://" in path:
        raise Failure(
            "of URLs, only clickhouse:// and clickhouse+https:// are read; other tables are files (Parquet, DuckDB)."
        )
    file, _, table = path.removeprefix("duckdb:").partition("#")
    if path.startswith("duckdb:") or file.endswith((".duckdb", ".ddb")):
        if table and not _NAME.fullmatch(table):
            raise Failure(f"{path}: what follows # is the name of a table.")
        return Source("duckdb", file, table or TABLE)
    return Source("parquet", path) if path.endswith(".parquet") else None


def read_table(source: Source, facts: frozenset[str]) -> Iterator[tuple[UsageRow | None, str | None]]:
    """Read the usage records of a table, in batches.

    Args:
        source: which table.
        facts: names of further attributes that are kept.

    Yields:
        Each record, and what of it could not be read.

    Raises:
        Failure: it cannot be read.
    """
    rows = _clickhouse(source) if source.kind == "clickhouse" else _duckdb(source)
    for row in rows:
        record = _record(row)
        if record is not None:
            yield row_of(record, facts)


def _record(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write a row as the log record that it was."""
    event = next((row[name] for name in _EVENTS if row.get(name)), c.USAGE_EVENT)
    if event != c.USAGE_EVENT:
        return None
    attributes: Any = next((row[name] for name in _MAPS if name in row), None)
    if isinstance(attributes, str):
        attributes = json.loads(attributes)
    if attributes is None:
        attributes = {
            name: value for name, value in row.items() if name not in (*_TIMES, *_EVENTS) and value is not None
        }
    time = next((row[name] for name in _TIMES if row.get(name) is not None), None)
    return {
        "timeUnixNano": _nanoseconds(time),
        "attributes": [{"key": key, "value": _value(key, value)} for key, value in attributes.items()],
    }


def _nanoseconds(time: Any) -> Any:
    if hasattr(time, "timestamp"):
        from openai_metering.cli.period import UTC, nanoseconds  # noqa: PLC0415 - of use for timestamps alone

        return nanoseconds(time if time.tzinfo is not None else time.replace(tzinfo=UTC))
    return time


def _value(key: str, value: Any) -> dict[str, Any]:
    if key in _COUNTS:  # a map of text has them as text
        return {"intValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": value}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def _duckdb(source: Source) -> Iterator[dict[str, Any]]:
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise Failure(f"{source.place} needs duckdb: pip install 'openai-metering[tables]'.") from error
    if not Path(source.place).is_file():
        raise Failure(
            f"{source.place} does not exist. Give a Parquet or DuckDB file of usage records, or a ledger folder."
        )
    try:
        if source.kind == "parquet":
            connection = duckdb.connect()
            found = connection.execute("SELECT * FROM read_parquet(?)", [source.place])
        else:
            connection = duckdb.connect(source.place, read_only=True)
            found = connection.execute(f'SELECT * FROM "{source.table}"')  # noqa: S608 - a name of letters and digits
        with connection:
            names = [column[0] for column in found.description or ()]
            if not {c.RECORD_ID, *_MAPS} & set(names):
                raise Failure(
                    f"{source.name} has no column {c.RECORD_ID} and none of {' or '.join(_MAPS)}: it is no table of usage records."
                )
            while batch := found.fetchmany(_BATCH):
                for row in batch:
                    yield dict(zip(names, row, strict=True))
    except duckdb.Error as error:
        raise Failure(f"{source.name} cannot be read: {str(error).splitlines()[0]}") from error


def _clickhouse(source: Source) -> Iterator[dict[str, Any]]:
    parts = urllib.parse.urlsplit(source.place)
    scheme = "https" if parts.scheme.endswith("+https") else "http"
    url = f"{scheme}://{parts.hostname}:{parts.port or _PORT}/"
    query = (
        f"SELECT toString(toUnixTimestamp64Nano(Timestamp)) AS timeUnixNano, LogAttributes FROM {source.table} "  # noqa: S608 - names
        f"WHERE EventName = '{c.USAGE_EVENT}' FORMAT JSONEachRow"
    )
    request = urllib.request.Request(url, query.encode(), method="POST")  # noqa: S310 - http or https
    if parts.username is not None:
        word = base64.b64encode(f"{parts.username}:{os.environ.get(PASSWORD, '')}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - http or https
            for line in answer:
                yield json.loads(line)
    except urllib.error.HTTPError as error:
        what = (
            "refuses the user: name one as user@host and set " + PASSWORD
            if error.code in (401, 403, 516)
            else "refuses the query"
        )
        raise Failure(f"ClickHouse at {parts.hostname} {what} (status {error.code}).") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failure(
            f"ClickHouse at {url} cannot be reached, or broke off ({type(error).__name__}). Check the host, the port of "
            "its HTTP interface, and that it runs."
        ) from error
