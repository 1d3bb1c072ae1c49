"""Closed files of records, each compiled once into a Parquet file beside the cache: later reports read that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator  # noqa: TC003 - small, and used by name at run time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.progress import Progress
from openai_metering.cli.records import UsageRow, read
from openai_metering.ledger.files import living_processes, process_of
from openai_metering.signals.conventions import COST_STATUS

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 2
"""Of what a compiled file holds; another one is compiled anew."""
FOLDER_MODE: Final = 0o700  # records name people
NAMED_PROBLEMS: Final = 5
_POOLED: Final = 16 * 2**20  # bytes from which on processes are worth their start
COLUMNS: Final = {
    "id": "UUID",
    "record_id": "VARCHAR",
    "state": "VARCHAR",
    "time": "UBIGINT",
    "attribution": "VARCHAR",
    "organization": "VARCHAR",
    "subscriber": "VARCHAR",
    "credential": "VARCHAR",
    "tags": "VARCHAR",
    "operation": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "usage": "VARCHAR",
    "reason": "VARCHAR",
    "input": "BIGINT",
    "cached": "BIGINT",
    "output": "BIGINT",
    "reasoning": "BIGINT",
    "started": "UUID",
    "started_id": "VARCHAR",
}
_NULL: Final = "\\N"


@dataclass(frozen=True, slots=True)
class Compiled:
    """One file of records and what it was compiled into."""

    source: Path
    parquet: Path
    lines: int
    bad_lines: int
    problems: tuple[str, ...]
    quarantined: dict[str, int]
    """Records that must not be billed, by the gateway's reason; none is in the Parquet file."""
    priced: bool
    """Some of its records say what they cost."""


def cache_folder() -> Path:
    """Return where compiled files are kept: ``OPENAI_METERING_CACHE``, else the user's cache."""
    given = os.environ.get("OPENAI_METERING_CACHE")
    base = (
        Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openai-metering"
    )
    return base / "records"


def compile_all(files: Sequence[Path], folder: Path) -> tuple[list[Compiled], list[Path]]:
    """Compile the files that no process writes and that are not compiled yet, on all cores.

    A file whose size or time of change is another one than when it was compiled is compiled anew.

    Args:
        files: files of lines.
        folder: the cache.

    Returns:
        What is compiled, and the files that are still written to, or cannot be compiled.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    living = {parent: living_processes(parent) for parent in {file.parent for file in files}}
    closed = [file for file in files if process_of(file) not in living[file.parent]]
    rest = [file for file in files if file not in set(closed)]
    found: list[Compiled] = []
    todo: list[tuple[Path, Path]] = []
    for file in closed:
        target = _target(file, folder)
        known = _known(file, target)
        if known is not None:
            found.append(known)
        else:
            todo.append((file, target))
    if not todo:
        return found, rest
    sizes = {file: file.stat().st_size for file, _ in todo}
    with Progress(sum(sizes.values()), "Compiling", "files", stride=1) as progress:
        results = (
            _in_processes(todo) if sum(sizes.values()) > _POOLED else ((file, _compile(file, to)) for file, to in todo)
        )
        for number, (file, done) in enumerate(results, 1):
            if done is None:
                rest.append(file)
            else:
                found.append(done)
            progress.advance(sizes[file], number)
    _tidy(folder)
    return found, rest


def _in_processes(todo: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Compiled | None]]:
    """Compile files on all cores, and give each when it is done."""
    with ProcessPoolExecutor(min(len(todo), os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_compile, file, target): file for file, target in todo}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _target(file: Path, folder: Path) -> Path:
    found = file.stat()
    place = hashlib.sha256(str(file.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return folder / f"{place}-{found.st_size}-{found.st_mtime_ns}-v{VERSION}.parquet"


def _known(file: Path, target: Path) -> Compiled | None:
    try:
        facts = json.loads(target.with_suffix(".json").read_text("utf-8"))
        if not target.exists():
            return None
        return Compiled(
            file,
            target,
            facts["lines"],
            facts["bad_lines"],
            tuple(facts["problems"]),
            facts["quarantined"],
            facts["priced"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tidy(folder: Path) -> None:
    """Delete what was compiled of files that are gone or have changed."""
    for facts in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            source = Path(json.loads(facts.read_text("utf-8"))["source"])
            if not source.exists() or _target(source, folder).with_suffix(".json") != facts:
                facts.with_suffix(".parquet").unlink(missing_ok=True)
                facts.unlink(missing_ok=True)


def _compile(file: Path, target: Path) -> Compiled | None:
    """Compile one file, in a process of its own; the result appears whole or not at all."""
    import duckdb  # noqa: PLC0415 - an extra

    counts = {"lines": 0, "bad_lines": 0}
    problems: list[str] = []
    held: Counter[str] = Counter()
    priced = False
    text = target.with_suffix(f".{os.getpid()}.csv")
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        with open(text, "w", encoding="utf-8", newline="", opener=_private) as stream:
            for line in read([file], frozenset({COST_STATUS})):
                counts["lines"] += 1
                held.update(line.quarantined)
                if line.problem is not None:
                    counts["bad_lines"] += 1
                    if len(problems) < NAMED_PROBLEMS:
                        problems.append(f"{line.file}:{line.number}: {line.problem}")
                for row in line.rows:
                    priced = priced or bool(row.facts)
                    stream.write(_csv(row))
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            connection.execute(
                f"COPY (SELECT * FROM read_csv('{_quoted(text)}', columns = {{{columns}}}, header = false, delim = ',', "  # noqa: S608 - paths, quoted
                f"quote = '\"', escape = '\"', nullstr = '{_NULL}', allow_quoted_nulls = false, auto_detect = false, "
                f"max_line_size = 16000000)) TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd)"
            )
        part.chmod(0o600)
        facts = {**counts, "problems": problems, "quarantined": held, "priced": priced, "source": str(file.resolve())}
        part.replace(target)
        target.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
        return Compiled(file, target, counts["lines"], counts["bad_lines"], tuple(problems), dict(held), priced)
    except (ValueError, duckdb.Error):  # a character that no such file can hold: it is read as lines
        return None
    finally:
        for left in (text, part):
            left.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def number_of(record_id: str) -> str:
    """Return what stands for an id where ids are compared: 128 bits, written as a UUID."""
    return hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _csv(row: UsageRow) -> str:
    started = None if row.started_id is None else number_of(row.started_id)
    values: tuple[str | int | None, ...] = (
        number_of(row.record_id),
        row.record_id,
        row.state,
        row.time_unix_nano,
        row.attribution,
        row.organization,
        row.subscriber,
        row.credential,
        json.dumps(row.tags) if row.tags else None,
        row.operation,
        row.provider,
        row.model,
        row.usage,
        row.reason,
        row.input_tokens,
        row.cached_tokens,
        row.output_tokens,
        row.reasoning_tokens,
        started,
        row.started_id,
    )
    return ",".join(map(_cell, values)) + "\n"


def _cell(value: str | int | None) -> str:
    if value is None:
        return _NULL
    if isinstance(value, int):
        return str(value)
    if "\x00" in value or "\r" in value or "\n" in value:
        raise ValueError("a character that a line cannot hold")
    return '"' + value.replace('"', '""') + '"'


def tags_of(text: str | None) -> tuple[tuple[str, str], ...]:
    """Return the tags of a compiled record."""
    return () if text is None else tuple((key, value) for key, value in json.loads(text))


def rows_of(found: Iterator[tuple[Any, ...]]) -> Iterator[UsageRow]:
    """Return compiled records, given in the order of ``COLUMNS``, as they were."""
    for one in found:
        yield UsageRow(
            record_id=one[1],
            state=one[2],
            time_unix_nano=one[3],
            attribution=one[4],
            organization=one[5],
            subscriber=one[6],
            credential=one[7],
            tags=tags_of(one[8]),
            operation=one[9],
            provider=one[10],
            model=one[11],
            usage=one[12],
            reason=one[13],
            input_tokens=one[14],
            cached_tokens=one[15],
            output_tokens=one[16],
            reasoning_tokens=one[17],
            started_id=one[19],
        )
