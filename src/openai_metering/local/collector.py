"""A Collector process on this machine: started on free ports, stopped without loss."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from openai_metering.local.discovery import (
    LOCAL_CONFIG,
    VARIABLE,
    CollectorError,
    config_path,
    find_collector,
    last_lines,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

LOG_FILE: Final = "collector.log"
START_ATTEMPTS: Final = 5  # each with new ports: another process may take one before the Collector binds it
PORT_TAKEN: Final = "address already in use"
POLL: Final = 0.05  # seconds between two looks at a starting Collector


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of one Collector."""

    grpc: int
    http: int
    prometheus: int
    health: int
    telemetry: int

    @classmethod
    def free(cls) -> Ports:
        """Have the system choose; all are held until all are chosen, so no two are equal."""
        with contextlib.ExitStack() as held:
            listeners = [held.enter_context(socket.socket()) for _ in range(5)]
            for listener in listeners:
                listener.bind(("127.0.0.1", 0))
            return cls(*(listener.getsockname()[1] for listener in listeners))


class LocalCollector:
    """One Collector process with ``local.yaml``, for a demonstration or a test.

    Enter it to start it; leave it to stop it. What it has acknowledged is in the files once it has stopped. One Collector
    at a time writes to a folder: two would mix their lines.

    Args:
        output_dir: Where ``records.jsonl``, ``spans.jsonl``, ``metrics.jsonl``, ``logs.jsonl`` and the Collector's own
            ``collector.log`` are written; created if absent, appended to if not.
        binary: The Collector to run; by default what `find_collector` finds.
        config: The configuration; by default ``local.yaml``.
        environ: Further environment variables for the configuration.
        start_timeout: Seconds until it must be ready.
        stop_timeout: Seconds that it may take to write what it holds when stopped.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        binary: str | os.PathLike[str] | None = None,
        config: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        start_timeout: float = 30.0,
        stop_timeout: float = 30.0,
    ) -> None:
        self.output_dir = Path(output_dir).absolute()
        self._binary = None if binary is None else Path(binary)
        self._config = None if config is None else Path(config)
        self._environ = dict(environ or {})
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._health_path = f"/{secrets.token_hex(8)}"  # only our own process answers there
        self._ports: Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- what it offers
    @property
    def http_endpoint(self) -> str:
        """Base URL for OTLP over HTTP."""
        return f"http://127.0.0.1:{self._chosen.http}"

    @property
    def grpc_endpoint(self) -> str:
        """URL for OTLP over gRPC."""
        return f"http://127.0.0.1:{self._chosen.grpc}"

    @property
    def prometheus_url(self) -> str:
        """The page with the totals of all metrics."""
        return f"http://127.0.0.1:{self._chosen.prometheus}/metrics"

    @property
    def telemetry_url(self) -> str:
        """The page with the Collector's own metrics: accepted, refused, sent, failed."""
        return f"http://127.0.0.1:{self._chosen.telemetry}/metrics"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> str:
        """The end of what the Collector said about itself."""
        with contextlib.suppress(OSError):
            return last_lines((self.output_dir / LOG_FILE).read_text(encoding="utf-8", errors="replace"))
        return ""

    @property
    def _chosen(self) -> Ports:
        if self._ports is None:
            raise CollectorError("The Collector has no address before it is started.")
        return self._ports

    # -- life
    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except CollectorError:
            if error is None:  # never hide what went wrong inside
                raise

    def start(self) -> None:
        """Start the process and wait until it receives.

        Raises:
            CollectorError: It cannot start; the message says why and what to do.
        """
        if self.pid is not None:
            raise CollectorError(f"The Collector is already running as process {self.pid}.")
        binary = self._binary or find_collector().binary
        config = self._config or config_path(LOCAL_CONFIG)
        self._prepare_folder()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._ports = Ports.free()
            said_before = self._log_size()
            self._launch(binary, config)
            try:
                ready = self._wait_until_ready()
            except BaseException:  # an interrupt, too, must not leave a process behind
                self.kill()
                raise
            if ready:
                return
            said = self._log_since(said_before)
            if PORT_TAKEN not in said or attempt == START_ATTEMPTS:
                raise CollectorError(self._advice(binary, config, said))

    def stop(self) -> None:
        """Ask the process to end (SIGTERM) and wait until it has written everything it holds.

        Raises:
            CollectorError: It did not end in time and was killed, or ended with an error: the files may be incomplete.
        """
        process, self._process = self._process, None
        if process is None:
            return
        died_before = process.poll() is not None
        process.terminate()
        try:
            code = process.wait(self._stop_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise CollectorError(
                f"The Collector did not stop within {self._stop_timeout:.0f} s and was killed; the last records in "
                f"{self.output_dir} may be missing.\n{self.log}"
            ) from None
        if died_before or code != 0:
            raise CollectorError(
                f"The Collector ended {'by itself ' if died_before else ''}with exit code {code}; the last records in "
                f"{self.output_dir} may be missing.\n{self.log}"
            )

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    # -- starting
    def _prepare_folder(self) -> None:
        """Make sure that the files can be written, and that what is appended begins on a line of its own."""
        try:
            self.output_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.output_dir / LOG_FILE).touch()
            for path in self.output_dir.glob("*.jsonl"):
                with path.open("rb+") as file:
                    end_line(file)
        except OSError as error:
            raise CollectorError(
                f"The Collector cannot write to {self.output_dir}: {error}. Choose a folder that you may write to."
            ) from error

    def _launch(self, binary: Path, config: Path) -> None:
        with (self.output_dir / LOG_FILE).open("ab") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the binary the user chose
                    [str(binary), "--config", str(config)],
                    env={**os.environ, **self._environ, **self._settings()},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            except OSError as error:
                raise CollectorError(
                    f"{binary} does not run: {error}. Set {VARIABLE} to a Collector of this machine's architecture."
                ) from error

    def _settings(self) -> dict[str, str]:
        """The variables of ``local.yaml``."""
        ports = self._chosen
        return {
            "OPENAI_METERING_OUTPUT_DIR": str(self.output_dir),
            "OPENAI_METERING_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports.grpc}",
            "OPENAI_METERING_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports.http}",
            "OPENAI_METERING_PROMETHEUS_ENDPOINT": f"127.0.0.1:{ports.prometheus}",
            "OPENAI_METERING_HEALTH_ENDPOINT": f"127.0.0.1:{ports.health}",
            "OPENAI_METERING_HEALTH_PATH": self._health_path,
            "OPENAI_METERING_TELEMETRY_HOST": "127.0.0.1",
            "OPENAI_METERING_TELEMETRY_PORT": str(ports.telemetry),
        }

    def _wait_until_ready(self) -> bool:
        """Wait for the health endpoint; False if the process ended instead."""
        process = self._process
        if process is None:
            return False
        deadline = time.monotonic() + self._start_timeout
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._process = None
                return False
            if answers(f"http://127.0.0.1:{self._chosen.health}{self._health_path}"):
                return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
        raise CollectorError(f"The Collector was not ready within {self._start_timeout:.0f} s. It said:\n{self.log}")

    def _log_size(self) -> int:
        return (self.output_dir / LOG_FILE).stat().st_size

    def _log_since(self, offset: int) -> str:
        with (self.output_dir / LOG_FILE).open("rb") as log:
            log.seek(offset)
            return last_lines(log.read().decode("utf-8", "replace"))

    def _advice(self, binary: Path, config: Path, said: str) -> str:
        """The error for a Collector that ended while starting."""
        if PORT_TAKEN in said:
            advice = f"Its ports were taken by other processes, {START_ATTEMPTS} times in a row; try again."
        elif "permission denied" in said or "read-only file system" in said:
            advice = f"Choose an output folder that you may write to instead of {self.output_dir}."
        elif reason := refusal(binary, config, os.environ):
            advice = f"It {reason}\nUse the Collector of build.py, or the contrib distribution 0.158 or newer."
        else:
            advice = f"All of its log: {self.output_dir / LOG_FILE}"
        return f"The Collector {binary} did not start. It said:\n{said}\n{advice}"


def end_line(file: IO[bytes]) -> None:
    """Close the last line of a file that a killed Collector left open, so that the next record is not lost with it."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.write(b"\n")


# A proxy from the environment must not stand between us and our own process.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with _direct.open(url, timeout=1) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP OK
    except (OSError, ValueError):
        return False
