"""A trial of the seams in a process of its own: real calls of the installed SDK to a server on loopback, whose usage is known.

Run as ``python -m openai_metering.cli.trial``; it prints one JSON object. It needs nothing but the SDK.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INPUT, OUTPUT = 101, 23
_CHAT: Final = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
_RESPONSE: Final = {
    "input_tokens": INPUT,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": OUTPUT,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": INPUT + OUTPUT,
}
_EMBEDDING: Final = {"prompt_tokens": INPUT, "total_tokens": INPUT}
_MODEL: Final = "trial-model"
_MESSAGES: Final[list[Any]] = [{"role": "user", "content": "trial"}]
_WHO: Final = {
    "organization_id": "openai-metering-doctor",
    "subscriber_identity": "trial",
    "subscriber_credential": "trial",
}


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers chat completions, plain and streamed, responses and embeddings."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if b"openai-metering-doctor" in json.dumps(body).encode() + str(self.headers).encode():
            self._answer(b'{"error": {"message": "who a call is for reached the provider"}}', status=400)
            return
        if self.path.endswith("/chat/completions") and body.get("stream"):
            asked = (body.get("stream_options") or {}).get("include_usage")
            self._answer("".join(_chunks(usage=bool(asked))).encode(), "text/event-stream")
            return
        answer = next(answer for end, answer in _ANSWERS.items() if self.path.endswith(end))
        self._answer(json.dumps(answer).encode())

    def _answer(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        del format, args


_HEAD: Final = {"id": "chatcmpl-trial", "created": 1, "model": _MODEL}
_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "/chat/completions": {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "trial"}, "finish_reason": "stop"}],
        "usage": _CHAT,
    },
    "/responses": {
        "id": "resp_trial",
        "object": "response",
        "created_at": 1,
        "model": _MODEL,
        "status": "completed",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _RESPONSE,
    },
    "/embeddings": {
        "object": "list",
        "model": _MODEL,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": _EMBEDDING,
    },
}


def _chunks(*, usage: bool) -> Iterator[str]:
    chunk = {**_HEAD, "object": "chat.completion.chunk"}
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": "trial"}, None), ({}, "stop")]
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"
    if usage:
        yield f"data: {json.dumps({**chunk, 'choices': [], 'usage': _CHAT})}\n\n"
    yield "data: [DONE]\n\n"


def _forms(openai: Any, url: str) -> dict[str, Callable[[], Any]]:
    """The forms of a call that are tried, by what a person calls them; those that the SDK does not have are left out."""
    settings: dict[str, Any] = {"base_url": url, "api_key": "trial", "max_retries": 0, "timeout": 20}
    client = openai.OpenAI(**settings)
    chat: dict[str, Any] = {"model": _MODEL, "messages": _MESSAGES, "usage_metadata": _WHO}

    async def waited() -> None:
        async with openai.AsyncOpenAI(**settings) as other:
            await other.chat.completions.create(**chat)
            async for _ in await other.chat.completions.create(**chat, stream=True):
                pass

    forms: dict[str, Callable[[], Any]] = {
        "chat": lambda: client.chat.completions.create(**chat),
        "chat stream": lambda: list(client.chat.completions.create(**chat, stream=True)),
        "raw": lambda: client.chat.completions.with_raw_response.create(**chat).parse(),
        "embeddings": lambda: client.embeddings.create(
            model=_MODEL, input="trial", encoding_format="float", usage_metadata=_WHO
        ),
        "async, plain and streamed": lambda: asyncio.run(waited()),
    }
    if hasattr(client, "responses"):
        forms["responses"] = lambda: client.responses.create(model=_MODEL, input="trial", usage_metadata=_WHO)
    return forms


def _tried(form: Callable[[], Any], folder: Path) -> str | None:
    """Make one call, and say what is wrong with its records, if anything."""
    from openai_metering.cli.records import read  # noqa: PLC0415 - after the SDK is patched, as in an application

    def records() -> dict[str, Any]:
        files = sorted(folder.glob("*.jsonl"))
        return {row.record_id: row for line in read(files) for row in line.rows}

    before = set(records())
    try:
        form()
    except Exception as error:
        return f"the call failed: {type(error).__name__}"
    found = [row for record_id, row in records().items() if record_id not in before]
    if not found:
        return "no usage record"
    for row in found:
        if row.organization != _WHO["organization_id"]:
            return "who it is for is not on the record"
        if row.usage != "reported" or row.input_tokens != INPUT or row.output_tokens not in (OUTPUT, None):
            return f"usage is {row.usage} ({row.reason or 'other tokens than sent'})"
    return None


def main() -> None:
    """Try every form, and print what was found as JSON: the SDK's version, and by form what is wrong, or null."""
    from openai_metering import OpenAIInstrumentor  # noqa: PLC0415 - as in an application

    with tempfile.TemporaryDirectory(prefix="openai-metering-doctor-") as name:
        os.environ["OPENAI_METERING_LEDGER_DIR"] = name
        OpenAIInstrumentor().instrument(records="ledger", ledger_dir=name, enabled=True)
        import openai  # noqa: PLC0415 - the SDK of this environment

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}/v1"
            found = {form: _tried(make, Path(name)) for form, make in _forms(openai, url).items()}
            server.shutdown()
        OpenAIInstrumentor().uninstrument()
    print(json.dumps({"version": openai.__version__, "forms": found}))


if __name__ == "__main__":
    main()
