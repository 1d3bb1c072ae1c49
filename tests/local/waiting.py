"""Waiting for a condition, with a deadline."""

import threading
import time


def wait_for(condition, timeout=10.0):
    """Return what ``condition()`` gives as soon as it is true."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not true after {timeout} s"
        threading.Event().wait(0.005)
    return found
