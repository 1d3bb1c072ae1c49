"""The embedded OTLP receiver: what arrives over HTTP ends as OTLP JSON lines in a folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from openai_metering.local.background import BackgroundServer, run_until_told
from openai_metering.local.collector import end_line
from openai_metering.local.otlp_json import check_ids, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.message import Message

    Request = TypeVar("Request", bound=Message)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
MAX_BODY: Final = 64 * 1024 * 1024  # bytes after decompression
INVALID_ARGUMENT: Final = 3  # google.rpc.Code
UNAVAILABLE: Final = 14
FILE_MODE: Final = 0o600  # records name people
FOLDER_MODE: Final = 0o700


class ReceiverError(RuntimeError):
    """What is wrong with the receiver's folder, and what to do next."""


class RefusedError(Exception):
    """A request that cannot be taken: the HTTP status, the code of ``google.rpc`` and a text for the sender."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three signals: the request that carries it and the file it ends in."""

    request: Callable[[], Message]
    file: str
    holds: Callable[[Any], bool]
    """Whether a request carries anything; the Collector, too, writes no line for one that does not."""


SIGNALS: Final[Mapping[str, Signal]] = {
    "/v1/traces": Signal(
        ExportTraceServiceRequest,
        "spans.jsonl",
        lambda request: any(scope.spans for one in request.resource_spans for scope in one.scope_spans),
    ),
    "/v1/metrics": Signal(
        ExportMetricsServiceRequest,
        "metrics.jsonl",
        lambda request: any(
            getattr(metric, metric.WhichOneof("data") or "gauge").data_points
            for one in request.resource_metrics
            for scope in one.scope_metrics
            for metric in scope.metrics
        ),
    ),
    "/v1/logs": Signal(
        ExportLogsServiceRequest,
        "records.jsonl",
        lambda request: any(scope.log_records for one in request.resource_logs for scope in one.scope_logs),
    ),
}


class OtlpReceiver(BackgroundServer):
    """Receives OTLP over HTTP, as protobuf or JSON, on a free loopback port; enter it to start it.

    A request that was answered with 200 is in its file, as one line, in the form of the Collector's file exporter.

    Args:
        directory: Where ``spans.jsonl``, ``metrics.jsonl`` and ``records.jsonl`` are written; created if absent, appended
            to if not.

    Raises:
        ReceiverError: The folder cannot be written to.
    """

    auto_decompress = False

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        self.directory = Path(directory).absolute()
        self._files: dict[str, LineFile] = {}
        self._check_folder()

    @property
    def endpoint(self) -> str:
        """What ``OTEL_EXPORTER_OTLP_ENDPOINT`` takes."""
        return self.url

    def start(self) -> None:
        """Open the files and start to receive.

        Raises:
            ReceiverError: The folder cannot be written to.
        """
        with self._explained():
            for path, signal in SIGNALS.items():
                self._files.setdefault(path, LineFile(self.directory / signal.file))
        try:
            super().start()
        except BaseException:
            self._close()
            raise

    def stop(self) -> None:
        """Stop receiving and close the files."""
        super().stop()
        self._close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take one export request."""
        signal = SIGNALS.get(request.path)
        if signal is None:
            return web.Response(status=404, text=f"No such path: {request.path}; there are {', '.join(SIGNALS)}.\n")
        if request.method != "POST":
            return web.Response(status=405, headers={"allow": "POST"}, text="Only POST is answered here.\n")
        kind = request.content_type
        if kind not in {PROTOBUF, JSON}:
            text = f"415 unsupported media type {kind}, supported: [{JSON}, {PROTOBUF}]\n"
            return web.Response(status=415, text=text)
        try:
            body = decompressed(await request.read(), request.headers.get("content-encoding", "identity"))
            message = decoded(body, kind, signal.request())
            if signal.holds(message):
                self._write(request.path, message)
        except RefusedError as refused:
            return refusal(refused, kind)
        # An Export*ServiceResponse without partial_success.
        return web.Response(body=b"{}" if kind == JSON else b"", content_type=kind)

    def _write(self, path: str, message: Message) -> None:
        line = json.dumps(to_json(message), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._files[path].append(line)
        except OSError as error:
            text = f"{self.directory / SIGNALS[path].file} cannot be written: {error.strerror or error}"
            raise RefusedError(503, UNAVAILABLE, text) from error

    def _check_folder(self) -> None:
        with self._explained():
            self.directory.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            for signal in SIGNALS.values():
                LineFile(self.directory / signal.file).close()

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            raise ReceiverError(
                f"The receiver cannot write to the folder {self.directory}: {error.strerror or error}. Name a folder that "
                "you may write to, or change the permissions of this one."
            ) from error

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


class LineFile:
    """A file to which whole lines are appended, or nothing."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
        self._file = os.fdopen(descriptor, "rb+", buffering=0)
        end_line(self._file)

    def append(self, line: bytes) -> None:
        """Append a line; what a full disk leaves of it is taken back."""
        end = self._file.seek(0, os.SEEK_END)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def decompressed(body: bytes, encoding: str) -> bytes:
    """Undo the compression of a body.

    Raises:
        RefusedError: The encoding is unknown, the body is not of it, or is too large.
    """
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise RefusedError(415, INVALID_ARGUMENT, f"unsupported content-encoding {encoding}, supported: gzip, deflate")
    expand = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
    try:
        plain = expand.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise RefusedError(400, INVALID_ARGUMENT, f"the body is not {encoding}: {error}") from error
    if expand.unconsumed_tail:
        raise RefusedError(413, INVALID_ARGUMENT, f"the body is larger than {MAX_BODY} bytes")
    if not expand.eof:
        raise RefusedError(400, INVALID_ARGUMENT, f"the body is not {encoding}: it ends too early")
    return plain


def decoded(body: bytes, kind: str, message: Request) -> Request:
    """Fill an export request from a body.

    Raises:
        RefusedError: The body is no such request.
    """
    try:
        if kind == JSON:
            from_json(json.loads(body), message)
        else:
            message.ParseFromString(body)
        check_ids(message)
    except (DecodeError, ValueError, RecursionError) as error:
        form = "OTLP JSON" if kind == JSON else "OTLP protobuf"
        raise RefusedError(400, INVALID_ARGUMENT, f"the body is not {form}: {error}") from error
    return message


def refusal(refused: RefusedError, kind: str) -> web.Response:
    """Answer with a ``google.rpc.Status`` in the request's own form."""
    text = str(refused)
    if kind == JSON:
        body = json.dumps({"code": refused.code, "message": text}).encode()
    else:  # two fields: not worth another package
        encoded = text.encode()
        body = bytes((0x08, refused.code, 0x12)) + _varint(len(encoded)) + encoded
    return web.Response(status=refused.status, body=body, content_type=kind)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the receiver as a process of its own: it prints its endpoint in one JSON line and ends with SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m openai_metering.local.receiver", description=main.__doc__)
    parser.add_argument("directory", metavar="DIR", help="where the files are written")
    try:
        receiver = OtlpReceiver(parser.parse_args(arguments).directory)
        run_until_told(receiver, lambda: {"endpoint": receiver.endpoint})
    except ReceiverError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
