"""The folder: read as one state, changed by one at a time, each file replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

from openai_metering.directory.checks import check
from openai_metering.directory.schema import KINDS
from openai_metering.directory.tables import DirectoryError, Problem, empty, parse, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from openai_metering.directory.schema import Kind
    from openai_metering.directory.tables import Table

LOCK: Final = ".lock"
LOCK_TIMEOUT: Final = 60.0
"""Seconds that a change waits for those before it."""

_IGNORED: Final = f"{LOCK}\n.*.new\n/lookup.csv\n/key_map.json\n"
_NAMED: Final = 10
_READINGS: Final = 100


def init(folder: Path) -> list[str]:
    """Make a directory: three files with nothing but their headers, and what version control is to leave out.

    Args:
        folder: where; made when it is not there. Files that are there stay as they are.

    Returns:
        The names of the files that were made.

    Raises:
        DirectoryError: when they cannot be written.
    """
    made = []
    with _errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = {kind.file: text_of(empty(kind)) for kind in KINDS.values()} | {".gitignore": _IGNORED}
        for name, text in files.items():
            if not (folder / name).exists():
                write(folder / name, text)
                made.append(name)
    return made


def read(folder: Path) -> tuple[dict[str, Table], list[Problem]]:
    """Read a directory, whatever its state.

    Returns:
        The tables by kind, and everything that is wrong with them.

    Raises:
        DirectoryError: when a file cannot be read.
    """
    tables, problems = _parsed(folder)
    return tables, problems or check(tables)


def _parsed(folder: Path) -> tuple[dict[str, Table], list[Problem]]:
    texts, problems = _texts(folder)
    tables = {}
    for name, kind in KINDS.items():
        tables[name], wrong = parse(kind, texts[name])
        problems += wrong
    return tables, problems


def load(folder: Path) -> dict[str, Table]:
    """Read a directory that is to be used.

    Returns:
        The tables by kind.

    Raises:
        DirectoryError: when it cannot be read, or anything is wrong with it.
    """
    tables, problems = read(folder)
    refuse(problems, f"the directory {folder} is not in order")
    return tables


@contextlib.contextmanager
def editing(folder: Path, *, dry_run: bool = False) -> Iterator[dict[str, Table]]:
    """Change a directory: read it under its lock, and write what was changed when the block ends without an error.

    Args:
        folder: the directory.
        dry_run: check what was changed, and write nothing.

    Yields:
        The tables by kind, to be replaced by changed ones.

    Raises:
        DirectoryError: when it is not in order before or after the change; then nothing is written.
    """
    with _lock(folder):
        tables, problems = _parsed(folder)
        refuse(problems, f"the directory {folder} is not in order")
        before = dict(tables)
        yield tables
        changed = [name for name in KINDS if tables[name] is not before[name]]
        problems = check(tables)
        if problems:  # of the change, or of what somebody wrote by hand before it
            refuse(check(before), f"the directory {folder} is not in order")
            refuse(problems, "nothing was changed")
        if dry_run:
            return
        # Who refers comes after what is referred to: whoever is interrupted between two files leaves a directory in order
        # where things were added.
        with _errors(folder):
            for name in changed:
                write(folder / KINDS[name].file, text_of(tables[name]))


def refuse(problems: Sequence[Problem], what: str) -> None:
    """Raise what is wrong, if anything is.

    Raises:
        DirectoryError: with the first problems by place.
    """
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:_NAMED]]
    if len(problems) > _NAMED:
        lines.append(f"  ... and {len(problems) - _NAMED:,} more; `openai-metering directory check` names them all.")
    raise DirectoryError("\n".join((f"{what}:", *lines)))


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: who reads it sees the old or the new text, also when this process is killed.

    A link stays a link, and the new file has the mode of the old one.
    """
    path = path.resolve()
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 - a descriptor
            if path.exists():
                new.chmod(path.stat().st_mode & 0o7777)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _texts(folder: Path) -> tuple[dict[str, str], list[Problem]]:
    """Read the three files as one state: again, when one of them was replaced meanwhile."""
    if not folder.is_dir():
        raise DirectoryError(
            f"{folder} is no directory of organizations. Make one with `openai-metering directory init --directory "
            f"{folder}`, or name another one with --directory."
        )
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for _ in range(_READINGS):
        before = [_identity(folder / kind.file) for kind in KINDS.values()]
        problems = []
        for name, kind in KINDS.items():
            texts[name], wrong = _text(folder, kind)
            problems += wrong
        if before == [_identity(folder / kind.file) for kind in KINDS.values()]:
            break
    return texts, problems


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # reading it says so, in better words
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _text(folder: Path, kind: Kind) -> tuple[str, list[Problem]]:
    try:
        content = (folder / kind.file).read_bytes()
    except FileNotFoundError:
        raise DirectoryError(
            f"{folder / kind.file} does not exist. `openai-metering directory init --directory {folder}` makes what is "
            "missing."
        ) from None
    except OSError as error:
        raise DirectoryError(
            f"{folder / kind.file} cannot be read: {error.strerror or type(error).__name__}."
        ) from error
    try:
        return content.decode("utf-8"), []
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        return content.decode("utf-8", "replace"), [Problem(kind.file, line, column, "is not UTF-8.")]


@contextlib.contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DirectoryError(f"{folder} cannot be written: {error.strerror or type(error).__name__}.") from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        import filelock  # noqa: PLC0415 - an extra, and only needed for changes
    except ModuleNotFoundError as error:
        raise DirectoryError("changes need filelock: pip install 'openai-metering[directory]'.") from error
    if not folder.is_dir():
        _texts(folder)  # says so
    lock: Any = filelock.FileLock(folder / LOCK, timeout=LOCK_TIMEOUT)
    try:
        with _errors(folder):
            lock.acquire()
    except filelock.Timeout as error:
        raise DirectoryError(
            f"somebody else has been changing {folder} for {LOCK_TIMEOUT:.0f} seconds. Try again when that has ended."
        ) from error
    try:
        yield
    finally:
        lock.release()
