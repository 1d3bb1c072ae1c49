"""Which files a command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

PATTERN: Final = "*.jsonl"


def files_of(paths: Iterable[str]) -> list[Path]:
    """Find the files to read: a file is itself, a folder is every ``*.jsonl`` below it, sorted.

    Args:
        paths: files and folders, in the order in which they are read.

    Returns:
        The files; one reached twice (a folder and a file in it, a link) is there once.

    Raises:
        Failure: when a path does not exist or a folder holds no such file.
    """
    found: dict[Path, Path] = {}
    for name in paths:
        for file in _below(Path(name)):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob(PATTERN) if file.is_file())
        if not files:
            raise Failure(
                f"no {PATTERN} file below {path}. Give the folder that OPENAI_METERING_LEDGER_DIR names, "
                "or the one that the Collector's file exporter writes to."
            )
        return files
    if not path.exists():
        raise Failure(
            f"{path} does not exist. Give a file of usage records, or the folder that OPENAI_METERING_LEDGER_DIR names."
        )
    return [path]
