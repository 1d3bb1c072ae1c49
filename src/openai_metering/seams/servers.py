"""Where calls go: a client's host, and the name that the conventions give to who runs it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from openai_metering.finished import Server

# Host, or end of the host, and `gen_ai.provider.name`. A host says more than a class name or a part of a URL.
_PROVIDERS: Final = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("azure-api.net", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("amazonaws.com", "aws.bedrock"),
    ("api.aws", "aws.bedrock"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80, "wss": 443, "ws": 80}
_UNKNOWN: Final = "unknown"

_seen: WeakKeyDictionary[Any, tuple[Any, Server]] = WeakKeyDictionary()


def server_of(client: Any) -> Server:
    """Return where a client sends its calls; remembered for as long as its base URL is the same object."""
    url = getattr(client, "_base_url", None)  # the property imports a module each time in openai 3.57
    try:
        known = _seen.get(client)
    except TypeError:  # a subclass that is compared by value, and has no hash
        return _read(client, client.base_url)
    if known is not None and known[0] is url:
        return known[1]
    server = _read(client, client.base_url)
    _seen[client] = (url, server)
    return server


def socket_server_of(client: Any) -> Server:
    """Return where a client opens its websockets: its own URL for them, or that of its calls."""
    url = getattr(client, "websocket_base_url", None)
    if url is None:
        return server_of(client)
    parts = urlsplit(str(url))
    return Server(_provider(client, parts.hostname), parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme))


def _read(client: Any, url: Any) -> Server:
    # By attribute and not by type: openai 3 has the URL class of httpx2, earlier ones that of httpx.
    host = getattr(url, "host", None) or None
    port = getattr(url, "port", None) or _DEFAULT_PORTS.get(getattr(url, "scheme", ""))
    return Server(_provider(client, host), host, port)


def _provider(client: Any, host: str | None) -> str:
    if host is not None:
        for known, provider in _PROVIDERS:
            if host == known or host.endswith("." + known):
                return provider
    if any("Azure" in ancestor.__name__ for ancestor in type(client).__mro__):
        return "azure.ai.openai"
    return host or _UNKNOWN
