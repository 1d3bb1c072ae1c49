"""deploy/ as its own validators see it: systemd, hadolint, the schemas of Kubernetes and of compose."""

from __future__ import annotations

import re
import subprocess

import fetched
import pytest

from openai_metering.local.discovery import config_path

DEPLOY = config_path("deploy/kubernetes.yaml").parent
COMPOSE = """
import pathlib, sys, yaml
from compose_spec import ComposeSpecification
ComposeSpecification.model_validate(yaml.safe_load(pathlib.Path(sys.argv[1]).read_text()))
"""


def accepts(command: list[object]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stderr.lower()


@pytest.mark.parametrize("unit", sorted(path.name for path in DEPLOY.glob("*.service")))
def test_systemd_accepts_the_units(tmp_path, unit):
    """With a program that is there in place of the Collector, which is not installed where tests run."""
    text = (DEPLOY / unit).read_text(encoding="utf-8")
    (tmp_path / unit).write_text(text.replace("/usr/local/bin/otelcol-metering", "/bin/true"))
    fetched.do(["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], "On Debian: apt install systemd.")


def test_kubernetes_accepts_the_objects():
    """Strictly: a field that does not exist is an error."""
    accepts(
        [fetched.python_tool("kubernetes-validate") / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml"]
    )


def test_hadolint_accepts_the_containerfile():
    """Every rule."""
    accepts([fetched.python_tool("hadolint") / "hadolint", DEPLOY / "Containerfile"])


def test_compose_accepts_its_file():
    """As types of the specification; a field that it does not know would pass."""
    accepts([fetched.python_tool("compose-spec") / "python", "-c", COMPOSE, DEPLOY / "compose.yaml"])


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_every_variable_is_one_that_the_configurations_know(path):
    """No example sets what nothing reads."""
    known = set()
    for file in DEPLOY.parent.rglob("*.yaml"):
        known |= set(re.findall(r"\$\{env:([A-Z_]+)", file.read_text(encoding="utf-8")))
    named = set(re.findall(r"\bOPENAI_METERING_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert named <= known
