"""A process that is killed with SIGKILL under load owes no record of an answer that its caller had."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openai_metering.cli.files import files_of
from openai_metering.cli.joining import Calls
from openai_metering.cli.records import read
from openai_metering.cli.verify import check
from openai_metering.local.provider import ProviderStandIn
from openai_metering.signals import conventions as c
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).with_name("killed_app.py")
FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
MODES = ("threads", "tasks", "streams", "forked", "gunicorn", "celery")
KILLS = dict.fromkeys(MODES, 9 if FULL else 1)
STARTED_AFTER = 0.2
TOLD_BY = STARTED_AFTER + 2.0
"""Seconds after which a call that never ends has left its line, on a busy machine, too."""


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderStandIn]:
    with ProviderStandIn(keep=0) as running:
        yield running


def told(folder: Path, what: str) -> dict[str, float]:
    """The calls of which the processes said something, and when."""
    lines = [line.split() for path in folder.glob(f"{what}-*") for line in path.read_text().splitlines()]
    return {call: float(when) for call, when in lines}


@contextlib.contextmanager
def application(mode: str, provider: ProviderStandIn, folder: Path) -> Iterator[int]:
    """A running application in a process group of its own; gives the group's id."""
    environment = {
        **os.environ,
        "PROVIDER": provider.base_url,
        "TOLD": str(folder),
        "OPENAI_METERING_LEDGER_DIR": str(folder / "ledger"),
        "OPENAI_METERING_LEDGER_STARTED_AFTER": str(STARTED_AFTER),
        "OPENAI_METERING_LEDGER_ROTATE_BYTES": "100000",
        "SERVER": mode,
        "PYTHONPATH": str(APP.parent),
    }
    python = [sys.executable, "-m"]
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "output").open("wb") as output:
        command = {
            "gunicorn": [
                *python,
                *("gunicorn", "killed_app:application", "--preload", "--workers=2", "--threads=4"),
                *(f"--bind=fd://{listening.fileno()}", f"--worker-tmp-dir={folder}", "--no-control-socket"),
            ],
            "celery": [
                *python,
                *("celery", "-A", "killed_app:tasks", "worker", "-c", "3", "-P", "prefork"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
        }.get(mode, [sys.executable, str(APP), mode])
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[listening.fileno()],
        )
        stop = threading.Event()
        clients = []
        if mode == "gunicorn":
            paths = ["/hang", *["/call"] * 4]
            port = listening.getsockname()[1]
            clients = [threading.Thread(target=request_on, args=(port, path, stop)) for path in paths]
            for client in clients:
                client.start()
        try:
            wait_for(
                lambda: process.poll() is not None or len(told(folder, "got")) > 3,
                f"the first answers; {(folder / 'output').read_text()[-2000:]}",
                60,
            )
            assert process.poll() is None, (folder / "output").read_text()[-4000:]
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            stop.set()
            listening.close()
            for client in clients:
                client.join(30)


def request_on(port: int, path: str, stop: threading.Event) -> None:
    """Ask the application for calls until it is gone."""
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()


def call_tags(folder: Path) -> list[tuple[str, Any]]:
    """The tag of each record, and the record."""
    return [(dict(row.tags)["call"], row) for line in read(files_of([str(folder)])) for row in line.rows]


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("mode", "round_"), [(mode, number) for mode in MODES for number in range(KILLS[mode])], ids=str
)
def test_kill(mode, round_, provider, tmp_path, capsys):
    """Each answer that a caller had is in the ledger exactly once; a call under way is there as cut off."""
    generator = random.Random(f"{mode}-{round_}") if not FULL else random.SystemRandom()
    with application(mode, provider, tmp_path) as group:
        began = time.time()
        pause = generator.uniform(0.1, 4.0) if round_ or FULL else TOLD_BY + generator.random()
        threading.Event().wait(pause)
        os.killpg(group, signal.SIGKILL)
        killed = time.time()
    wait_for(lambda: group_is_gone(group), "the end of all processes")
    ledger = tmp_path / "ledger"
    expected = told(tmp_path, "got")
    finals = [tag for tag, row in call_tags(ledger) if row.state == "final"]
    found = set(finals)
    calls = Calls()
    for _, row in call_tags(ledger):
        calls.add(row)
    cut = {dict(row.tags)["call"] for row in calls.rows() if row.state == "started"}
    hanging = {call for call, when in told(tmp_path, "began").items() if killed - when > TOLD_BY}
    checked = check(files_of([str(ledger)]))
    with capsys.disabled():
        print(
            f"\n{mode}: killed after {killed - began:.1f} s, expected {len(expected)}, found {len(expected.keys() & found)}, "
            f"double {len(finals) - len(found)}, under way {len(hanging)}, told {len(hanging & cut)}, "
            f"torn {len(checked.torn)}, files {checked.files}"
        )
    assert expected.keys() - found == set()
    assert len(finals) == len(found)
    assert hanging - cut == set()
    assert {row.reason for row in calls.rows() if row.state == "started"} <= {"process_ended"}
    assert {row.usage for row in calls.rows() if row.state == "started"} <= {"unknown"}
    assert checked.written == 0
    assert not checked.duplicate
    assert len(checked.unresolved) == len(cut)


def test_the_names_of_a_call_are_those_of_the_tag():
    """The tag by which the calls above are told apart is one that the application gives itself."""
    assert c.TAG_PREFIX + "call" == "attribution.tag.call"
