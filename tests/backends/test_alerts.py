"""alerts/ evaluated by vmalert: each fires for the traffic that it is for, and for no other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import fetched
import pytest
from running import free_ports

from openai_metering.local.discovery import config_path

RULES = sorted(config_path("alerts/usage.yaml").parent.glob("*.yaml"))
CASES = Path(__file__).with_name("alerts.test.yaml")
ANNOTATIONS = re.compile(r"^ {8}annotations:\n(?: {10}.*\n)+", flags=re.MULTILINE)


def test_each_alert_fires_for_its_traffic_alone(tmp_path):
    """Every alert has a case where it fires and one where it does not; texts are no part of the comparison."""
    cases = CASES.read_text(encoding="utf-8")
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        for alert in re.findall(r"- alert: (\w+)", text):
            assert len(re.findall(rf"alertname: {alert}\b", cases)) >= 2
        (tmp_path / path.name).write_text(ANNOTATIONS.sub("", text), encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    (port,) = free_ports(1)
    done = subprocess.run(
        [fetched.go_tool("vmalert-tool"), "unittest", f"--files={CASES.name}", f"--httpListenPort={port}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    failed = [part for part in (done.stdout + done.stderr).split("\n") if " info\t" not in part]
    assert done.returncode == 0, "\n".join(failed)[-4000:]
    assert "SUCCESS" in done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_expressions_and_texts_are_valid(path):
    """As vmalert reads them before it starts; each alert says what to do."""
    done = subprocess.run(
        [fetched.go_tool("vmalert"), "-dryRun", f"-rule={path}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    text = path.read_text(encoding="utf-8")
    assert text.count("- alert:") == text.count("what_to_do:") == text.count("summary:")
