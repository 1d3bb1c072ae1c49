"""tls.yaml, mtls.yaml and oidc.yaml over gateway.yaml: who is let in, on the real Collector."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
import trustme
from joserfc import jwk, jwt
from running import Collector, basic, htpasswd, logs, written

from waiting import wait_for

RECORD = {
    "openai_metering.record.id": "r1",
    "openai_metering.record.state": "pending",
    "openai_metering.operation": "batches",
}
AUDIENCE = "openai-metering"


def gateway(binary: Any, folder: Any, *configs: str, **variables: str) -> Collector:
    htpasswd(folder / "htpasswd", ["acme"])
    (folder / "principals.csv").write_text("principal,organizations\nacme,AcmeSoft\n")
    (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
    return Collector(binary, folder, "gateway.yaml", *configs, STORE_DIR=str(folder / "store"), **variables)


def send(url: str, authorization: str, context: ssl.SSLContext | None = None) -> int | str:
    """Send one record. Returns the status, or what became of the connection."""
    handlers = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    headers = {"content-type": "application/json", "authorization": authorization}
    request = urllib.request.Request(f"{url}/v1/logs", json.dumps(logs(RECORD)).encode(), headers)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (ssl.SSLError, urllib.error.URLError, ConnectionError) as error:
        return f"no connection: {type(error).__name__}"


def organizations(running: Collector) -> set[str]:
    return {
        item["attributes"]["attribution.organization.id"]
        for item in written(running.folder / "store" / "records.jsonl")
    }


@pytest.fixture
def authority(tmp_path):
    made = trustme.CA()
    certificate = made.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "tls.crt", append=True)
    made.cert_pem.write_to_path(tmp_path / "client-ca.crt")
    return made


@pytest.mark.parametrize("mutual", [False, True])
def test_only_tls_is_spoken(collector_binary, tmp_path, authority, mutual):
    """Plain HTTP and TLS 1.2 are refused; with mtls.yaml, so is a sender without a certificate."""
    configs = ("tls.yaml", "mtls.yaml") if mutual else ("tls.yaml",)
    with gateway(collector_binary, tmp_path, *configs) as running:
        url = running.http_endpoint.replace("http:", "https:")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        without = send(url, basic("acme"), context)
        if mutual:
            assert str(without).startswith("no connection")
            authority.issue_cert("agent@example.org").configure_cert(context)
        assert send(url, basic("acme"), context) == 200
        assert send(url, basic("nobody"), context) == 401
        assert send(running.http_endpoint, basic("acme")) == 400
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert str(send(url, basic("acme"), context)).startswith("no connection")
        wait_for(lambda: organizations(running) == {"AcmeSoft"}, "the record")


class Issuer(http.server.ThreadingHTTPServer):
    """An OpenID Connect issuer: its description, its key, and tokens."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.url = f"http://127.0.0.1:{self.server_port}"

    def token(self, subject: str, audience: str = AUDIENCE, key: Any = None, lifetime: int = 600) -> str:
        claims = {"iss": self.url, "sub": subject, "aud": audience, "exp": int(time.time()) + lifetime}
        return "Bearer " + jwt.encode({"alg": "RS256", "kid": "one"}, claims, key or self.key)


class Answers(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        body = {
            "issuer": self.server.url,
            "jwks_uri": f"{self.server.url}/keys",
            "authorization_endpoint": f"{self.server.url}/authorize",
            "token_endpoint": f"{self.server.url}/token",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        if self.path == "/keys":
            body = {"keys": [self.server.key.as_dict(private=False)]}
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def issuer():
    with Issuer() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_tokens_tell_senders_apart(collector_binary, tmp_path, issuer):
    """A token of the issuer, for this audience, in time: its subject is the principal. Any other is not heard."""
    with gateway(collector_binary, tmp_path, "oidc.yaml", OIDC_ISSUER=issuer.url) as running:
        other = jwk.RSAKey.generate_key(2048, {"kid": "one"})
        for refused in (
            basic("acme"),
            "",
            issuer.token("acme", key=other),
            issuer.token("acme", audience="else"),
            issuer.token("acme", lifetime=-60),
        ):
            assert send(running.http_endpoint, refused) == 401
        assert send(running.http_endpoint, issuer.token("acme")) == 200
        wait_for(lambda: organizations(running) == {"AcmeSoft"}, "the record")
