"""The files of a ledger: their names, whose they are, when the next one begins and which are deleted."""

from __future__ import annotations

import io
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no locks that end with their process and that a reader can look at
    fcntl = None  # type: ignore[assignment]

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
MEBIBYTE: Final = 1024 * 1024

_NAME: Final = re.compile(r"usage-\d{8}T\d{6}-(?P<process>\d+-[0-9a-f]{8})-\d+\.jsonl")


@dataclass(frozen=True, slots=True)
class Rules:
    """How the files of a ledger are kept.

    Args:
        fsync: ``never``, ``interval`` (once a second, by a thread) or ``always`` (before ``append`` returns).
        rotate_bytes: a file of this size is followed by a new one.
        rotate_seconds: a file of this age is followed by a new one.
        max_bytes: of the whole folder; beyond, the oldest files that no process writes are deleted. ``None``: no limit.
    """

    fsync: str = "never"
    rotate_bytes: int = 64 * MEBIBYTE
    rotate_seconds: float = 3600
    max_bytes: int | None = None


class Files:
    """Opens one file after the other for this process; their names sort in the order in which they were opened.

    Each is locked for as long as this process may write to it: that is how readers tell a file that is closed, also by
    the end of its process, from one that is not. Not thread-safe.

    Args:
        folder: where the files go; made with mode 0700 where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = ""
        self._stamp = ""
        self._number = 0

    def open_next(self) -> io.FileIO:
        """Open the next file.

        Raises:
            OSError: the folder cannot be made, or the file cannot be opened.
        """
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        process = self._process or f"{os.getpid():07d}-{secrets.token_hex(4)}"
        # A clock that was set back must not sort a later file before an earlier one.
        stamp = max(self._stamp, time.strftime("%Y%m%dT%H%M%S", time.gmtime()))
        path = self._folder / f"usage-{stamp}-{process}-{self._number:05d}.jsonl"
        file = io.FileIO(path, "ab", opener=_open_new)
        self._process, self._stamp, self._number = process, stamp, self._number + 1
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: its files look closed
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def forget(self) -> None:
        """Begin anew: this is another process, or the ledger was closed."""
        self._process = ""


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), FILE_MODE)


def sync_folder(folder: Path) -> None:
    """Have the names of the files in a folder put on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_ledger_file(path: Path) -> bool:
    """Whether a file has the name of one that a ledger wrote."""
    return _NAME.fullmatch(path.name) is not None


def process_of(path: Path) -> str:
    """The process that wrote a ledger file, as its name says; any other file stands for itself."""
    named = _NAME.fullmatch(path.name)
    return str(path) if named is None else f"{path.parent}/{named['process']}"


def is_written(path: Path) -> bool:
    """Whether a process of this machine still holds a ledger file open for writing."""
    if fcntl is None:
        return False
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return True  # the lock comes between the file and its first line: it must not be taken away here
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            return False  # closing it gives the lock back
    except OSError:
        return False


def living_processes(folder: Path) -> set[str]:
    """The processes that write to a ledger folder now, named as ``process_of`` does; a look at each file."""
    return {process_of(path) for path, size in _existing(folder) if size and is_written(path)}


def delete_oldest(folder: Path, max_bytes: int) -> tuple[int, int]:
    """Delete the oldest files of a ledger that no process writes, until the rest is not larger than a limit.

    Returns:
        How many files were deleted, and their bytes.
    """
    files = list(_existing(folder))
    excess = sum(size for _, size in files) - max_bytes
    deleted, deleted_bytes = 0, 0
    for path, size in files:
        if deleted_bytes >= excess:
            break
        if not is_written(path):
            path.unlink(missing_ok=True)
            deleted, deleted_bytes = deleted + 1, deleted_bytes + size
    return deleted, deleted_bytes


def _existing(folder: Path) -> Iterable[tuple[Path, int]]:
    """The files of a ledger with their sizes, the oldest first; other processes may delete some meanwhile."""
    for path in sorted(path for path in folder.glob("usage-*.jsonl") if is_ledger_file(path)):
        with suppress(FileNotFoundError):
            yield path, path.stat().st_size


def is_gone(file: Any) -> bool:
    """Whether somebody has removed an open file."""
    return os.fstat(file.fileno()).st_nlink == 0
