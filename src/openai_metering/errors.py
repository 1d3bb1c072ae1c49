"""Our own errors: counted, logged once per kind, swallowed."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("openai_metering")

counts: Counter[str] = Counter()
"""How often each kind of error of our own was swallowed in this process."""

listeners: list[Callable[[str], None]] = []
"""Called with the kind of each swallowed error; the metrics signal registers here."""

_warned: set[str] = set()


def swallow(kind: str, error: BaseException) -> None:
    """Count an error of our own, log it once for its kind, and let the application go on.

    The log line names the exception's type and the place in our code, never its text: texts can quote what passed
    through us.

    Args:
        kind: where it happened, from a small set of words such as ``"begin"`` or ``"ledger"``.
        error: the exception.
    """
    try:
        if kind not in _warned:
            _warned.add(kind)
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"
            logger.warning(
                "An error inside openai-metering was swallowed; the call itself is not affected "
                "(kind %s, %s at %s; further ones of this kind are only counted).",
                kind,
                type(error).__name__,
                place,
            )
        count(kind)
    except Exception:  # noqa: S110 - the last line of defence has nowhere left to report to
        pass


def count(kind: str) -> None:
    """Count an error of our own, and tell whoever listens."""
    counts[kind] += 1
    for listener in tuple(listeners):
        listener(kind)


def warn_once(kind: str, message: str, *args: object) -> None:
    """Log a warning the first time its kind is seen in this process."""
    try:
        if kind not in _warned:
            _warned.add(kind)
            logger.warning(message, *args)
    except Exception:  # noqa: S110 - a broken logging set-up must not reach the call
        pass


def reset() -> None:
    """Forget what was counted and logged, so that a new ``instrument()`` speaks up again."""
    counts.clear()
    _warned.clear()
