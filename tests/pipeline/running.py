"""Collectors of the configuration folder as processes, on ports of their own, that can be killed and started again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openai_metering.local.collector import config_path
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self


def built_collector() -> Path:
    """The real Collector of the committed manifest: built once, kept in the cache, never skipped."""
    script = config_path("distribution/build.py")
    built = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        pytest.fail("The Collector cannot be built; what build.py said above tells what to do.", pytrace=False)
    return Path(built.stdout.splitlines()[-1])


PASSWORD = "not-a-secret"
PORTS = ("OTLP_GRPC_ENDPOINT", "OTLP_HTTP_ENDPOINT", "HEALTH_ENDPOINT")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()


class Collector:
    """One Collector with the configurations named, in a folder of its own."""

    def __init__(self, binary: Path, folder: Path, *configs: str, **variables: str) -> None:
        self.binary, self.folder = binary, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.configs = [name if Path(name).is_absolute() else str(config_path(name)) for name in configs]
        *ports, telemetry = free_ports(len(PORTS) + 1)
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(PORTS, ports, strict=True)}
        self.telemetry_url = f"http://127.0.0.1:{telemetry}/metrics"
        self.variables = {**self.addresses, "TELEMETRY_PORT": str(telemetry), **variables}
        self.process: subprocess.Popen[bytes] | None = None
        self.within: tuple[str, ...] = ()  # a command that becomes the Collector, such as one with a small disk

    @property
    def http_endpoint(self) -> str:
        return f"http://{self.addresses['OTLP_HTTP_ENDPOINT']}"

    @property
    def log(self) -> str:
        return (self.folder / "collector.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        with (self.folder / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, self.binary, *[part for config in self.configs for part in ("--config", config)]],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"]}
                | {f"OPENAI_METERING_{name}": value for name, value in self.variables.items()},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._ready, "a healthy Collector", timeout=30)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-2000:]
        try:
            with opener.open(f"http://{self.addresses['HEALTH_ENDPOINT']}/", timeout=1) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash would."""
        self._end("kill")

    def stop(self) -> None:
        """End it with SIGTERM."""
        self._end("terminate")

    def _end(self, how: str) -> None:
        if self.process is not None:
            getattr(self.process, how)()
            self.process.wait(30)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(endpoint: str, signal: str, body: dict[str, Any], user: str | None = None) -> int:
    """Send OTLP JSON. Returns the status, 0 where nobody answers."""
    headers = {"content-type": "application/json"} | ({"authorization": basic(user)} if user else {})
    request = urllib.request.Request(f"{endpoint}/v1/{signal}", json.dumps(body).encode(), headers)
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def otlp(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": otlp(value)} for key, value in values.items()]


def logs(*records: dict[str, Any], event: str = "openai_metering.usage") -> dict[str, Any]:
    """Usage records, or other logs, as one request."""
    found = [
        {"timeUnixNano": "1790000000000000000", "eventName": event, "attributes": attributes(record)}
        for record in records
    ]
    return {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {}, "logRecords": found}]}]}


def documents(line: str) -> Iterator[Any]:
    """The JSON of one line: one object, or several where a kill came between a line and its end; a torn one is none."""
    decoder = json.JSONDecoder()
    place = 0
    while (place := line.find('{"resource', place)) >= 0:
        try:
            found, place = decoder.raw_decode(line, place)
        except ValueError:
            place += 1
        else:
            yield found


def written(path: Path, outer: str = "resourceLogs", inner: str = "scopeLogs", items: str = "logRecords") -> list[Any]:
    """What stands in a file and those it was rotated to, each with its attributes as plain values."""
    found = []
    for file in path.parent.glob(f"{path.stem}*{path.suffix}"):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            for content in documents(line):
                for resource in content[outer]:
                    for scope in resource[inner]:
                        for item in scope[items]:
                            values = {
                                one["key"]: next(iter(one["value"].values())) for one in item.get("attributes", ())
                            }
                            found.append({**item, "attributes": values})
    return found


def htpasswd(path: Path, users: Iterable[str]) -> Path:
    """A password file; SHA-1 is enough for a password that is no secret."""
    hashed = base64.b64encode(hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    path.write_text("".join(f"{user}:{{SHA}}{hashed}\n" for user in users), encoding="utf-8")
    return path
