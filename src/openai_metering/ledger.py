"""Usage records as OTLP JSON lines on local disk, one file for each process."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# As protobuf's JSON writes what JSON has no number for.
_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def otlp_value(value: Any) -> dict[str, Any]:
    """Return a value as OTLP's JSON writes it: 64-bit integers are decimal text."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(int(value))} if -(2**63) <= value < 2**63 else {"stringValue": str(int(value))}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")}
    return {"arrayValue": {"values": [otlp_value(item) for item in value]}}


def otlp_attributes(attributes: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON writes them."""
    return [{"key": key, "value": otlp_value(value)} for key, value in attributes]


class Ledger:
    """Appends usage records to a file of this process's own, with one ``write`` for each line.

    A line that was written survives the end of the process, ``kill -9`` included; a crash of the machine can lose what
    the operating system had not yet put on disk. A child process never writes its parent's file.

    Args:
        folder: where the files go; made with mode 0700 where it is missing.
        resource: attributes of the resource that the records are of.
        scope: name and version of the instrumentation.
        schema_url: of the names in use.
    """

    def __init__(self, folder: str, resource: Mapping[str, Any], scope: tuple[str, str], schema_url: str) -> None:
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._file: io.FileIO | None = None
        self._pid = 0
        _ledgers.add(self)
        head = {"resource": {"attributes": otlp_attributes(resource.items())}}
        name = {"name": scope[0], "version": scope[1]}
        self._before = f'{{"resourceLogs":[{_encode(head)[:-1]},"scopeLogs":[{{"scope":{_encode(name)},"logRecords":['
        self._after = f'],"schemaUrl":{_encode(schema_url)}}}]}}]}}\n'

    def append(self, record: Mapping[str, Any]) -> int:
        """Append one record.

        Args:
            record: a log record in OTLP's JSON form.

        Returns:
            The number of bytes written.

        Raises:
            OSError: the file cannot be opened or written.
        """
        line = f"{self._before}{_encode(record)}{self._after}".encode("utf-8", "backslashreplace")
        # No lock around the write: one write of one line to a file in append mode is not torn by another thread's. The
        # file is never closed under a writer either: dropping it closes it when the last writer lets go.
        file = self._file
        if file is None or self._pid != os.getpid() or os.fstat(file.fileno()).st_nlink == 0:
            file = self._open()  # none yet, a forked parent's, or one that somebody has removed
        written = file.write(line)
        if written != len(line):
            # A full disk took a part: leave the torn line at the end of its file, where it can hide no other.
            self._file = None
            raise OSError(errno.ENOSPC, f"the ledger took {written} of {len(line)} bytes")
        return written

    def close(self) -> None:
        """Let go of the file; the next record opens a new one."""
        self._file = None

    def _open(self) -> io.FileIO:
        with self._lock:
            pid = os.getpid()
            if self._file is not None and self._pid == pid and os.fstat(self._file.fileno()).st_nlink:
                return self._file
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            path = self._folder / f"usage-{stamp}-{pid:07d}-{secrets.token_hex(4)}.jsonl"
            self._file = io.FileIO(path, "ab", opener=_open_new)
            self._pid = pid
            return self._file

    def _forget_in_child(self) -> None:
        self._lock = threading.Lock()
        self._file = None


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), FILE_MODE)


def _forget_in_child() -> None:
    """A forked child opens a file of its own, and takes no lock that a thread of its parent held."""
    for ledger in tuple(_ledgers):
        ledger._forget_in_child()  # noqa: SLF001 - the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
