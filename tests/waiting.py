"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import gc
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(condition: Callable[[], Any], what: str = "the condition", timeout: float = 10.0) -> Any:
    """Wait for a condition; garbage is collected meanwhile, so that dropped streams end."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s for {what}")
        gc.collect()
        time.sleep(0.01)
    return found


# CPython 3.13.0 itself crashes when a process ends with an open stream of the bare SDK.
ENDS_WITH_OPEN_STREAM = (0, -signal.SIGSEGV) if sys.version_info[:3] == (3, 13, 0) else (0,)
"""Exit codes of a process that ends while a stream is open."""
