"""What the provider stand-in has served, kept in memory for tests or appended to a file."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import os

SECRET_HEADERS: Final = frozenset({"authorization", "api-key", "cookie"})


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it arrived, and what was answered."""

    n: int
    """Number of the billable request, from 1; 0 for one that costs nothing."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    json: Any
    """The body decoded, None where it is not JSON."""
    scenario: str
    status: int
    """0 where no answer was begun."""
    usage: dict[str, Any] | None
    """The last usage object that was sent, exactly as sent."""
    stream: bool
    response_id: str
    request_id: str
    model: str
    """The model that the answer names."""
    kind: str = ""
    """A key of ``answers.PLAIN`` where the request is billed."""
    billed: dict[str, Any] | None = None
    """What it used, whether or not the answer says so."""
    time: float = 0.0
    """When it was noted, in seconds since 1970."""

    def line(self) -> bytes:
        """Return the request as a line of the journal file, without credentials."""
        fields = {
            "n": self.n,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": {name: value for name, value in self.headers.items() if name not in SECRET_HEADERS},
            "body_bytes": len(self.body),
            "json": self.json,
            "scenario": self.scenario,
            "status": self.status,
            "usage": self.usage,
            "stream": self.stream,
            "response_id": self.response_id,
            "request_id": self.request_id,
            "model": self.model,
        }
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


class Journal:
    """Everything served so far; filled by the server's thread, read by any.

    Args:
        file: Where each request is appended as one line, too.
        keep: How many of the last requests are held in memory; ``None``: all.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None, *, keep: int | None = None) -> None:
        self._file: IO[bytes] | None = None if file is None else Path(file).open("ab", buffering=0)  # noqa: SIM115
        self._arrived = threading.Condition()
        self._served: deque[Served] = deque(maxlen=keep)
        self._violations: list[str] = []

    def add(self, served: Served) -> None:
        """Note one request."""
        if self._file is not None:
            self._file.write(served.line())
        with self._arrived:
            self._served.append(served)
            self._arrived.notify_all()

    def add_violation(self, violation: str) -> None:
        """Note what a client must not send."""
        with self._arrived:
            self._violations.append(violation)

    @property
    def served(self) -> list[Served]:
        """The requests so far, in the order of their answers."""
        with self._arrived:
            return list(self._served)

    @property
    def violations(self) -> list[str]:
        """What clients sent that they must not."""
        with self._arrived:
            return list(self._violations)

    def wait(self, count: int, timeout: float) -> list[Served]:
        """Wait until ``count`` requests are served."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._served) >= count, timeout):
                raise TimeoutError(f"The provider served {len(self._served)} of {count} requests in {timeout} s.")
            return list(self._served)

    def clear(self) -> None:
        """Forget everything that is in memory."""
        with self._arrived:
            self._served.clear()
            self._violations.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
