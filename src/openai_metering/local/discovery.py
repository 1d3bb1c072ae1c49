"""A Collector on this machine, found: the user's own, one on ``PATH``, or the one that is built here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCAL_CONFIG: Final = "local.yaml"
VARIABLE: Final = "OTELCOL"  # a binary of the user's own choice
ON_PATH: Final = ("otelcol-metering", "otelcol-contrib")
NO_COLLECTOR: Final = "it is no OpenTelemetry Collector (it knows no `components`)"
LOG_TAIL: Final = 15  # lines of the Collector's log in an error


class CollectorError(RuntimeError):
    """What is wrong with the Collector, and what to do next."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A Collector that was looked at and not taken."""

    candidate: str
    reason: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CollectorChoice:
    """The Collector that is used, where it was found, and what was passed over on the way to it."""

    binary: Path
    source: str
    refused: tuple[Refusal, ...] = ()


def config_path(name: str) -> Path:
    """Find a file of the Collector configuration folder.

    Args:
        name: Its path inside the folder, such as ``local.yaml``.

    Returns:
        The file in the installed wheel (``openai_metering/collector-config``) or in the checkout.

    Raises:
        CollectorError: There is no such file.
    """
    package = Path(__file__).resolve().parents[1]
    folders = (package / "collector-config", package.parents[1] / "collector-config")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise CollectorError(f"No {name} in {' or '.join(map(str, folders))}: install openai-metering again.")


def find_collector(environ: Mapping[str, str] | None = None) -> CollectorChoice:
    """Find a Collector that accepts ``local.yaml``.

    In this order: the environment variable ``OTELCOL``, ``otelcol-metering`` and ``otelcol-contrib`` on ``PATH``, the
    binary that ``collector-config/distribution/build.py`` keeps in the cache.

    Args:
        environ: The environment to look in; by default that of the process.

    Returns:
        The first one that accepts the configuration, with the reasons why earlier ones were refused.

    Raises:
        CollectorError: None does; with all reasons and what to do.
    """
    environment = dict(os.environ if environ is None else environ)
    config = config_path(LOCAL_CONFIG)
    refused: list[Refusal] = []
    for found in candidates(environment):
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        reason = refusal(found.binary, config, environment)
        if reason is None:
            return CollectorChoice(found.binary, found.source, tuple(refused))
        refused.append(Refusal(f"{found.source} ({found.binary})", reason))
    raise CollectorError(
        "No Collector on this machine can be used.\n"
        + "".join(f"  {one}\n" for one in refused)
        + f"Build one (once, about 4 minutes): {sys.executable} {config_path('distribution/build.py')}\n"
        + f"or set {VARIABLE} to a Collector (contrib distribution 0.158 or newer)."
    )


def candidates(environment: Mapping[str, str]) -> Iterator[CollectorChoice | Refusal]:
    """Every place where a Collector may be: the binary there, or the reason why there is none."""
    path = environment.get("PATH", os.defpath)
    if chosen := environment.get(VARIABLE):
        binary = shutil.which(chosen, path=path)
        yield CollectorChoice(Path(binary), VARIABLE) if binary else Refusal(VARIABLE, f"{chosen} cannot be executed")
    for name in ON_PATH:
        source = f"{name} on PATH"
        binary = shutil.which(name, path=path)
        yield CollectorChoice(Path(binary), source) if binary else Refusal(source, "not there")
    yield cached(environment)


def cached(environment: Mapping[str, str]) -> CollectorChoice | Refusal:
    """Ask the build script for its binary, so that only one place knows how the cache is named."""
    source = "the cache of build.py"
    command = [sys.executable, str(config_path("distribution/build.py")), "--print-path"]
    answer = subprocess.run(  # noqa: S603 - our own script
        command, env=dict(environment), capture_output=True, text=True, check=False, timeout=60
    )
    path = answer.stdout.strip()
    if answer.returncode == 0:
        return CollectorChoice(Path(path), source)
    return Refusal(source, f"not built yet ({path})" if path else f"build.py failed: {last_lines(answer.stderr)}")


def is_collector(binary: Path, environment: Mapping[str, str]) -> bool:
    """Whether a binary can say which components it was built of: a program that succeeds with any arguments cannot."""
    try:
        answer = subprocess.run(  # noqa: S603 - the binary the user chose
            [str(binary.absolute()), "components"],
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "receivers:" in answer.stdout


def refusal(binary: Path, config: Path, environment: Mapping[str, str]) -> str | None:
    """Why a binary cannot run a configuration, or None if it can."""
    command = [str(binary), "validate", "--config", str(config)]
    try:
        answer = subprocess.run(  # noqa: S603 - the binary the user chose
            command, env=dict(environment), capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    if answer.returncode == 0:
        return None if is_collector(binary, environment) else NO_COLLECTOR
    return f"refuses {config.name}: {last_lines(answer.stderr or answer.stdout) or f'exit code {answer.returncode}'}"


def last_lines(text: str) -> str:
    """The end of what a process wrote."""
    return "\n".join(text.rstrip().splitlines()[-LOG_TAIL:])
