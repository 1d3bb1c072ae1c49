"""The live view: in a real terminal, it shows calls as they end, and Ctrl-C ends it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from usage_lines import line, record

from openai_metering.cli import main
from openai_metering.cli.watching import Tail

DEADLINE = 60.0


class Screen:
    """What a program writes to a terminal of its own."""

    def __init__(self, *words):
        self.terminal, inner = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        # What is started in the background by a shell ignores Ctrl-C, and so does all that it starts.
        code = (
            "import signal, sys; from openai_metering.cli import main; "
            "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, *map(str, words)]
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True
        )
        os.close(inner)
        self.text = ""

    def wait_for(self, pattern):
        """Read on until something is shown."""
        end = time.monotonic() + DEADLINE
        start = len(self.text)
        while not re.search(pattern, self.text[start:]):
            assert time.monotonic() < end, self.text[-2000:]
            if select.select([self.terminal], [], [], 0.5)[0]:
                self.text += os.read(self.terminal, 65536).decode("utf-8", "replace")

    def end(self):
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            if time.monotonic() >= end:
                self.process.kill()
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.terminal, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        os.close(self.terminal)
        return self.process.wait(DEADLINE)


def now():
    return time.time_ns()


def test_calls_appear_as_they_end(tmp_path):
    """What is written to the ledger is on the screen soon after, added up; what is old is not; Ctrl-C is a good end."""
    ledger = tmp_path / "a.jsonl"
    ledger.write_text(f"{line(record('old', organization='Yesterday', time=now() - 86_400 * 10**9))}\n")
    screen = Screen("report", tmp_path, "--watch", "--by", "organization", "--no-cost")
    try:
        screen.wait_for("Nothing yet")
        with ledger.open("a") as stream:
            stream.write(f"{line(record('one', organization='AcmeSoft', input=1111, time=now()))}\n")
        screen.wait_for("AcmeSoft +1 +1,111")
        with (tmp_path / "b.jsonl").open("w") as stream:
            stream.write(f"{line(record('two', organization='AcmeSoft', input=2222, time=now()))}\n")
        screen.wait_for("AcmeSoft +2 +3,333")
    finally:
        status = screen.end()
    assert status == 0
    assert "Yesterday" not in screen.text


def test_a_line_is_read_once_and_when_it_is_whole(tmp_path):
    """Half a line waits for its other half; a file that is written anew is read anew; an old one is passed over."""
    file = tmp_path / "a.jsonl"
    whole = f"{line(record('one'))}\n"
    file.write_text(whole[:50])
    tail = Tail([str(tmp_path)], frozenset(), 0.0)
    assert list(tail.rows()) == []
    file.write_text(whole)
    assert [row.record_id for row in tail.rows()] == ["one"]
    assert list(tail.rows()) == []
    file.write_text("\n")
    assert list(tail.rows()) == []
    later = Tail([str(tmp_path)], frozenset(), time.time() + 60)
    assert list(later.rows()) == []
    with file.open("a") as stream:
        stream.write(whole)
    assert [row.record_id for row in later.rows()] == ["one"]


def test_errors(tmp_path, capsys):
    """Without a terminal, or together with what makes no sense, it says so."""
    assert main(["report", str(tmp_path), "--watch"]) == 2
    assert "needs a terminal" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--watch", "--month", "2026-07"]) == 2
    assert "leave --month out" in capsys.readouterr().err
