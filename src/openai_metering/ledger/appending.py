"""Appends usage records to the ledger's file of this process."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.ledger.background import Handover, Syncing, is_disk_slow
from openai_metering.ledger.files import Files, Rules, delete_oldest, is_gone, sync_folder
from openai_metering.ledger.lines import Lines

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Mapping

_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Ledger:
    """Appends usage records to a file of this process's own, with one ``write`` for each line.

    A line that was written survives the end of the process, ``kill -9`` included. A child process never writes its
    parent's file.

    Args:
        folder: where the files go; made with mode 0700 where it is missing.
        resource: attributes of the resource that the records are of.
        scope: name and version of the instrumentation.
        schema_url: of the names in use.
        rules: how the files are kept.
        tell: told what happens: bytes of files that were ``deleted`` because of a limit, the disk is ``slow``, lines
            are ``lost``; each with a number.
    """

    def __init__(
        self,
        folder: str,
        resource: Mapping[str, Any],
        scope: tuple[str, str],
        schema_url: str,
        rules: Rules | None = None,
        tell: Callable[[str, int], None] = lambda _, __: None,
    ) -> None:
        self._folder = Path(folder)
        self._rules = rules or Rules()
        self._tell = tell
        self._lines = Lines(resource, scope, schema_url)
        self._files = Files(self._folder)
        self._lock = threading.Lock()
        self._file: io.FileIO | None = None
        self._previous: io.FileIO | None = None
        self._pid = 0
        self._size = 0
        self._until = 0.0
        self._handover = Handover(self._write, tell)
        self._syncing = Syncing(self._folder)
        _ledgers.add(self)

    def append(self, record: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> int:
        """Append one record.

        Args:
            record: a log record in OTLP's JSON form.
            attributes: its attributes by name, where the record does not hold them in that form itself.

        Returns:
            The number of bytes written, or handed over where the disk is slow.

        Raises:
            OSError: the file cannot be opened or written.
        """
        line = self._lines.line(record, attributes)
        if self._handover.active and self._handover.take(line):
            return len(line)
        began = time.perf_counter()
        self._write(line)
        # Who waits for the disk's confirmation has asked for it, however slow it is.
        if self._rules.fsync != "always" and is_disk_slow(time.perf_counter() - began):
            self._handover.begin()
        return len(line)

    def _write(self, line: bytes) -> None:
        # No lock around the write: one write of one line to a file in append mode is not torn by another thread's. The
        # file is never closed under a writer either: dropping it closes it when the last writer lets go.
        file = self._file
        if (
            file is None
            or self._pid != os.getpid()
            or self._size >= self._rules.rotate_bytes
            or time.monotonic() >= self._until
            or is_gone(file)
        ):
            file = self._open()  # none yet, a forked parent's, one that is full, old, or that somebody has removed
        written = file.write(line)
        if written != len(line):
            # A full disk took a part: leave the torn line at the end of its file, where it can hide no other.
            self._file = None
            raise OSError(errno.ENOSPC, f"the ledger took {written} of {len(line)} bytes")
        self._previous = None
        self._size += written  # two threads may lose one of their additions: a file is a line longer than it need be
        if self._rules.fsync == "always":
            os.fsync(file.fileno())
        elif self._rules.fsync == "interval":
            self._syncing.written(file)

    def close(self) -> None:
        """Let go of the file; the next record opens a new one."""
        if self._rules.fsync == "interval":
            self._syncing.sync()
        self._file = self._previous = None

    def _open(self) -> io.FileIO:
        with self._lock:
            pid = os.getpid()
            if (
                self._file is not None
                and self._pid == pid
                and self._size < self._rules.rotate_bytes
                and time.monotonic() < self._until
                and not is_gone(self._file)
            ):
                return self._file
            if self._pid != pid:
                self._files.forget()
            file = self._files.open_next()
            # The one before is held until the next has its first line: whoever looks sees that this process lives.
            self._previous, self._file = self._file, file
            self._pid = pid
            self._size = 0
            self._until = time.monotonic() + self._rules.rotate_seconds
        if self._rules.fsync == "always":
            sync_folder(self._folder)
        if self._rules.max_bytes is not None:
            self._delete_oldest(self._rules.max_bytes)
        return file

    def _delete_oldest(self, max_bytes: int) -> None:
        """Keep the folder below its limit; by a thread, for it looks at every file."""

        def delete() -> None:
            try:
                files, size = delete_oldest(self._folder, max_bytes)
                if files:
                    errors.warn_once(
                        "ledger_deleted",
                        "The ledger in %s is larger than its limit of %d bytes: its oldest files are deleted "
                        "(now %d; further ones are only counted).",
                        self._folder,
                        max_bytes,
                        files,
                    )
                    self._tell("deleted", size)
            except Exception as error:
                errors.swallow("ledger_limit", error)

        try:
            threading.Thread(target=delete, name="openai-metering-limit", daemon=True).start()
        except RuntimeError as error:  # the interpreter is shutting down: the next process sees to it
            errors.swallow("ledger_limit", error)

    def _forget_in_child(self) -> None:
        self._lock = threading.Lock()
        self._file = self._previous = None
        self._files.forget()
        self._handover.forget()
        self._syncing.forget()


def _forget_in_child() -> None:
    """A forked child opens a file of its own, and takes no lock that a thread of its parent held."""
    for ledger in tuple(_ledgers):
        ledger._forget_in_child()  # noqa: SLF001 - the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
