"""No secret of the application leaves the process by us, and nobody's name reaches the model provider."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from openai_metering.keys import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = (
    "api_key",
    "key_in_header",
    "key_in_map",
    "key_as_option",
    "key_in_organization",
    "key_in_subscriber",
    "key_as_credential",
    "key_in_tag",
    "key_as_tag",
    "key_near_miss",
    "key_in_model",
    "key_as_account",
)
PHRASES = (
    "fingerprint_secret",
    "hash_secret",
    "prompt",
    "answer",
    "error_text",
    "header",
    "user_field",
    "url_query",
    "url_path",
    "metadata_error",
    "resolver_error",
    "wrong_type",
)
SECRETS = {
    **{
        name: f"sk-proj-{number:02}Zq81nfA0xxWvutsrqPONMLKJIH{name.replace('_', '')}"
        for number, name in enumerate(KEYS)
    },
    **{name: f"{number:02}xylophone+{name.replace('_', '')}~marmalade" for number, name in enumerate(PHRASES)},
}
IDENTITIES = {
    "organization": "Quokka & Sons",
    "subscriber": "wilhelmina+ai@quokka.example",
    "credential": "quokka-key-seven",
    "tag": "quokka-team-indigo",
    "scope_tag": "quokka-plan-gold",
}
TO_THE_PROVIDER = {
    "prompt",
    "header",
    "user_field",
    "url_query",
    "url_path",
    "api_key",
    "key_in_header",
    "key_in_model",
    "key_as_account",
}
"""What the application itself sends there."""


def forms(secret: str) -> Iterator[bytes]:
    """A text as it may be written: plain, in a URL, as JSON, in base64 at any offset."""
    plain = secret.encode()
    yield plain
    yield quote(secret, safe="").encode()
    yield quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * offset + plain)
            yield encoded[4 if offset else 0 : -4]  # what depends on the bytes around it left off


def found_in(everything: bytes, texts: dict[str, str]) -> set[str]:
    """The names of the texts that are there, whole or for the most part."""
    found = set()
    for name, text in texts.items():
        part = text[10:] if name in KEYS else text  # the first characters of a key are no secret
        if any(form in everything for form in (*forms(text), *forms(part), *forms(text[: len(text) * 2 // 3]))):
            found.add(name)
    return found


class Server:
    """Keeps every byte that it gets."""

    def __init__(self, answer: Any) -> None:
        self.got: list[bytes] = []
        kept = self.got

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                kept.append(b"\n".join((self.requestline.encode(), bytes(self.headers), body)))
                status, kind, sent = answer(self.headers, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(sent)))
                self.send_header("x-request-id", "req-1")
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST  # noqa: N815 - the server's own name

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def provider_answer(headers: Any, body: bytes) -> tuple[int, str, bytes]:
    """An answer whose text is a secret, or an error whose text is one."""
    fail, answer = headers.get("x-fail"), SECRETS["answer"]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    whole = {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [choice],
        "usage": usage,
    }
    error = {
        "error": {
            "message": SECRETS["error_text"],
            "type": "x",
            "code": "refused_by_test",
            "param": SECRETS["error_text"],
        }
    }
    if fail == "broken":
        return 200, "application/json", f'{{"broken": "{SECRETS["error_text"]}'.encode()
    if fail not in (None, "stream"):
        return int(fail), "application/json", json.dumps(error).encode()
    if not body:
        return 200, "application/json", b'{"object": "list", "data": []}'
    if not json.loads(body).get("stream"):
        return 200, "application/json", json.dumps(whole).encode()
    delta = {"index": 0, "delta": {"content": answer}, "finish_reason": None}
    chunks: list[Any] = [{**whole, "object": "chat.completion.chunk", "choices": [delta]}]
    if fail == "stream":
        chunks.append(error)
    return (
        200,
        "text/event-stream",
        b"".join(f"data: {json.dumps(c)}\n\n".encode() for c in chunks) + b"data: [DONE]\n\n",
    )


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte that left an application full of secrets, by the way it took."""
    ledger = tmp_path_factory.mktemp("ledger")
    collector = Server(lambda headers, body: (200, "application/x-protobuf", b""))
    provider = Server(provider_answer)
    try:
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "app.py")],
            input=json.dumps(
                {
                    "secrets": SECRETS,
                    "identities": IDENTITIES,
                    "collector": collector.url,
                    "provider": f"{provider.url}/v1",
                    "ledger": str(ledger),
                }
            ).encode(),
            capture_output=True,
            timeout=120,
            check=False,
        )
    finally:
        collector.stop()
        provider.stop()
    assert ran.returncode == 0, ran.stderr.decode()
    return {
        "otlp": b"\n".join(collector.got),
        "ledger": b"\n".join(path.read_bytes() for path in ledger.rglob("*") if path.is_file()),
        "output": ran.stdout + ran.stderr,
        "provider": b"\n".join(provider.got),
    }


def test_the_search_finds_what_is_there(left: dict[str, bytes]) -> None:
    """The proof that the tests below look in the right places: what is meant to leave is found."""
    clear = {name: text for name, text in IDENTITIES.items() if name != "subscriber"}
    assert found_in(left["otlp"], clear) == set(clear)
    assert found_in(left["ledger"], clear) == set(clear)
    assert left["ledger"].count(b"\n") > 30
    assert b"openai_metering.calls" in left["otlp"]
    assert b"[masked]" in left["otlp"]
    assert f"key-{fingerprint(SECRETS['key_in_header'], SECRETS['fingerprint_secret'])}".encode() in left["ledger"]
    assert b"openai_metering" in left["output"]
    assert found_in(left["provider"], SECRETS) == TO_THE_PROVIDER - {"url_path"}
    for form in forms("secret/with+signs and more~"):
        assert found_in(b"xx" + form + b"yy", {"one": "secret/with+signs and more~"}) == {"one"}


@pytest.mark.parametrize("way", ["otlp", "ledger", "output"])
def test_no_secret_leaves(left: dict[str, bytes], way: str) -> None:
    """No key, header, prompt, answer, error text or query, plain, encoded or in base64."""
    assert found_in(left[way], SECRETS) == set()


@pytest.mark.parametrize("way", ["otlp", "ledger", "output"])
def test_a_hashed_subscriber_leaves_nowhere(left: dict[str, bytes], way: str) -> None:
    """Where subscribers are hashed, their names stay at home."""
    assert found_in(left[way], {"subscriber": IDENTITIES["subscriber"]}) == set()


def test_our_log_names_nobody(left: dict[str, bytes]) -> None:
    """What we log, at any level, says nothing of who calls are for."""
    assert found_in(left["output"], IDENTITIES) == set()


def test_nobodys_name_reaches_the_provider(left: dict[str, bytes]) -> None:
    """Neither keyword nor scope, client or baggage, though the HTTP client hands its context on; the user's own baggage goes."""
    assert found_in(left["provider"], IDENTITIES) == set()
    assert b"attribution" not in left["provider"]
    assert b"shop.region=eu" in left["provider"]
    assert b"traceparent" in left["provider"]
