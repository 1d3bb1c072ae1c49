"""Backends as processes on ports of their own: started, waited for, stopped with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from running import opener

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def process(folder: Path, command: list[Any], ready: str, timeout: float = 120, **environment: str) -> Iterator[None]:
    """Run a server in a process group of its own until its page answers, and end the whole group."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )

    def answers() -> bool:
        assert running.poll() is None, (folder / "log").read_text(errors="replace")[-3000:]
        try:
            return bool(opener.open(ready, timeout=2).status == 200)
        except OSError:
            return False

    try:
        wait_for(answers, f"{command[0]}", timeout=timeout)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)


def get(url: str, **query: str) -> Any:
    with opener.open(f"{url}?{urllib.parse.urlencode(query)}" if query else url, timeout=30) as answer:
        return json.load(answer)


def ask(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)
