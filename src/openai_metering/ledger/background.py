"""What a ledger does behind the caller's back: lines for a slow disk, and the disk's confirmation."""

from __future__ import annotations

import atexit
import errno
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from openai_metering import errors
from openai_metering.ledger.files import MEBIBYTE, sync_folder

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

SLOW_SECONDS: Final = 0.05
"""An append that takes longer hands the following ones to a thread."""
MAX_WAITING_BYTES: Final = 16 * MEBIBYTE
EXIT_SECONDS: Final = 2.0
"""How long the end of the process waits for lines that a slow disk has not taken."""
SYNC_SECONDS: Final = 1.0

_RETRY_SECONDS: Final = 0.5
_LINGER_ROUNDS: Final = 10


def is_disk_slow(took: float) -> bool:
    """Whether it is the disk that an append waited for, and not other threads that wanted to run, too.

    Args:
        took: seconds that the append took.
    """
    if took <= SLOW_SECONDS:
        return False
    began = time.perf_counter()
    os.stat(os.sep)  # noqa: PTH116 - lets other threads run, as a write does, and needs no disk
    return took - 2 * (time.perf_counter() - began) > SLOW_SECONDS


class Handover:
    """Takes lines while the disk is slow; one thread writes them, until the disk is fast again.

    Args:
        write: writes one line.
        tell: told of ``slow``, and at the end of the process of lines that are ``lost``, with their number.
    """

    def __init__(self, write: Callable[[bytes], object], tell: Callable[[str, int], None]) -> None:
        self._write = write
        self._tell = tell
        self.forget()

    def forget(self) -> None:
        """A forked child has no thread, and its parent's lines are its parent's."""
        self._changed = threading.Condition(threading.Lock())
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._written = 0
        self._taken = 0
        self._confirmed = False
        self._thread: threading.Thread | None = None
        self.active = False
        """The disk is slow: lines are to be handed over."""

    def begin(self) -> None:
        """An append was slow."""
        self.active = True
        self._tell("slow", 1)
        errors.warn_once(
            "ledger_slow",
            "The ledger's disk took more than %d ms for one line; lines are handed to a thread until it is fast again, "
            "and those that wait are lost if the process is killed meanwhile.",
            int(SLOW_SECONDS * 1000),
        )

    def take(self, line: bytes) -> bool:
        """Take a line to write later. Returns ``False`` where the disk is fast by now and the caller may write.

        Raises:
            OSError: too much waits already.
        """
        with self._changed:
            if not self.active:
                return False
            if self._bytes + len(line) > MAX_WAITING_BYTES:
                raise OSError(errno.ENOBUFS, "the disk is slow and too much waits for it")
            if self._thread is None:
                thread = threading.Thread(target=self._write_waiting, name="openai-metering-ledger", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is shutting down
                    return False
                self._thread = thread
                atexit.unregister(self.flush)
                atexit.register(self.flush)
            self._lines.append(line)
            self._bytes += len(line)
            self._taken += 1
            self._changed.notify_all()
            # One append may be slow for other reasons than the disk: until one more is, lines are waited for.
            if not self._confirmed:
                number = self._taken
                self._confirmed = not self._changed.wait_for(lambda: self._written >= number, SLOW_SECONDS)
            return True

    def flush(self) -> None:
        """Wait for the lines that wait, for a bounded time."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._lines, EXIT_SECONDS):
                self._tell("lost", len(self._lines))

    def _write_waiting(self) -> None:
        fast = False
        pause = threading.Event()  # never set: a wait that gevent's patching turns into its own
        while True:
            with self._changed:
                if not self._lines:
                    if fast:
                        self.active = self._confirmed = False
                        self._thread = None
                        return
                    self._changed.wait(1.0)
                    continue
                line = self._lines[0]
            began = time.perf_counter()
            try:
                self._write(line)
            except Exception as error:
                errors.swallow("ledger_handover", error)
                pause.wait(_RETRY_SECONDS)  # the line stays the first in the queue: nothing that was taken is dropped
                continue
            fast = time.perf_counter() - began <= SLOW_SECONDS
            with self._changed:
                self._lines.popleft()
                self._bytes -= len(line)
                self._written += 1
                self._changed.notify_all()


class Syncing:
    """Has files confirmed by the disk once a second, while there is something to confirm.

    Args:
        folder: that the files are in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.forget()

    def forget(self) -> None:
        """A forked child has no thread and has written nothing."""
        self._lock = threading.Lock()
        self._files: set[io.FileIO] = set()
        self._thread: threading.Thread | None = None

    def written(self, file: io.FileIO) -> None:
        """Confirm a file soon; it is not closed before."""
        self._files.add(file)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._sync_again, name="openai-metering-fsync", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down
                self.sync()
                return
            self._thread = thread
            atexit.unregister(self.sync)
            atexit.register(self.sync)

    def sync(self) -> None:
        """Confirm what was written since the last time."""
        files, self._files = self._files, set()
        try:
            for file in files:
                os.fsync(file.fileno())
            if files:
                sync_folder(self._folder)
        except Exception as error:
            errors.swallow("ledger_fsync", error)

    def _sync_again(self) -> None:
        idle = 0
        pause = threading.Event()
        while idle < _LINGER_ROUNDS:
            pause.wait(SYNC_SECONDS)
            idle = 0 if self._files else idle + 1
            self.sync()
        self._thread = None
        if self._files:  # written while this thread took its leave
            self._start()
