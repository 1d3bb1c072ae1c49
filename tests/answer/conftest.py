"""A simulated month, and a real browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import filelock
import month
import pytest
from playwright.sync_api import sync_playwright

from openai_metering.cli import main

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find():
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser():
    """Chromium: the one of this machine, or else the distribution's package, installed now.

    Not for longer than its module: while it is open an event loop runs in this thread, and no other one can.
    """
    with filelock.FileLock(Path(tempfile.gettempdir()) / "openai-metering-chromium.lock"):
        if find() is None:
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
                done = subprocess.run(
                    ["apt-get", "-qq", *words],
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                assert done.returncode == 0, (
                    f"a browser is needed: install chromium. apt-get said: {done.stderr[-500:]}"
                )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """A small month."""
    return month.write(tmp_path_factory.mktemp("month"), 2_000, organizations=12)


@pytest.fixture(scope="session")
def options(simulated):
    """The arguments of a report of that month."""
    month_of = ["--month", "2026-07", "--directory", str(simulated.directory), "--prices", str(simulated.prices)]
    return ["report", str(simulated.ledger), *month_of]


@pytest.fixture
def query(options, capsys):
    """The same report as JSON."""

    def run(*args):
        assert main([*options, *args, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run
