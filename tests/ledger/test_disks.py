"""What a bad disk costs: never a call, one warning, a count, and nothing once it is good again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from openai_metering.local.provider import ProviderStandIn

APP = Path(__file__).with_name("disk_app.py")
CALLS = 30


@pytest.fixture(scope="module")
def provider():
    with ProviderStandIn(keep=0) as running:
        yield running


def mounts() -> list[str]:
    """How to start a process that may mount a file system of its own; empty where the machine allows none."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            tried = subprocess.run(
                [*command, "sh", "-c", "d=$(mktemp -d) && mount -t tmpfs -o size=64k tmpfs $d && umount $d; rmdir $d"],
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if tried.returncode == 0 and not tried.stderr:
            return command
    return []


def run(kind: str, folder: Path, provider: ProviderStandIn, before: list[str], *more: str) -> dict[str, Any]:
    folder.mkdir()
    ran = subprocess.run(
        [*before, sys.executable, str(APP), kind, str(folder), provider.base_url, *more],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(APP.parents[1] / "core")},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    print(
        f"{kind}: {found['answered']} answered, {[len(ids) for ids in found['ledger']]} in the ledger after each phase, "
        f"{len(found['sent'])} sent as logs, {found['points'].get('openai_metering.ledger.errors')}"
    )
    return found


EXPECTED = {
    "full": {"ENOSPC", "EFBIG"},
    "read_only": {"EACCES"},
    "removed": {"ENOTDIR", "EEXIST"},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_bad_disk(kind, provider, capsys):
    """All calls are answered; each has its record once, in the ledger or as a log; the ledger goes on by itself."""
    before = mounts() if kind == "full" else []
    with capsys.disabled(), tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the application may run as another user
        print()
        found = run(kind, Path(folder) / "ledger", provider, before, *(["mounted"] if before else []))
    ledger, sent = found["ledger"], found["sent"]
    assert found["answered"] == CALLS * len(ledger)
    written = {record for ids in ledger for record in ids}
    assert len(ledger[-1]) == len(set(ledger[-1]))
    assert len(sent) == len(set(sent))
    assert written & set(sent) == set()
    assert len(written) + len(sent) == found["answered"]
    assert len(ledger[-1]) >= CALLS
    assert sent
    failures = found["points"]["openai_metering.ledger.errors"]
    assert failures.keys() - {"slow"} <= EXPECTED[kind]
    assert sum(amount for reason, amount in failures.items() if reason != "slow") == len(sent)
    assert found["points"]["openai_metering.records"] == {"ledger": len(written), "otlp": len(sent)}
    assert "openai_metering.records.dropped" not in found["points"]
    said = [text for text in found["said"] if "ms for one line" not in text]
    assert len(said) == 2
    assert "cannot be written" in said[0]
    assert "written again" in said[1]
