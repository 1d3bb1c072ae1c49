"""What: which requests are billable calls."""

from __future__ import annotations

import pytest

from openai_metering.operations import CHAT_COMPLETIONS, EMBEDDINGS, OPERATIONS, RESPONSES, find

HOST = "https://api.openai.com"
AZURE = "https://acme.openai.azure.com"


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "url",
    [
        "{path}",
        "{bare}",
        "{path}/",
        "{path}?api-version=2024-10-21",
        "/v1{path}",
        "v1{path}",
        HOST + "/v1{path}",
        HOST + "/v1{path}?a=b#c",
        "http://localhost:8000/v1{path}",
        "https://gateway.acme.com/team-a/openai/v1{path}",
        "/deployments/gpt-4o{path}",
        "/deployments/my%20deployment{path}",
        "/openai/deployments/gpt-4o{path}?api-version=2024-10-21",
        AZURE + "/openai/deployments/gpt-4o{path}?api-version=2024-10-21",
        AZURE + "/openai/deployments/v1{path}",
        AZURE + "/openai/v1{path}?api-version=preview",
        AZURE + "/openai{path}?api-version=2025-03-01-preview",
        "https://generativelanguage.googleapis.com/v1beta/openai{path}",
    ],
)
def test_a_billable_call_is_found_by_any_spelling_of_its_path(row, url):
    """A call is metered whether a method, `client.post` or an absolute URL makes it, at OpenAI or at Azure."""
    assert find("POST", url.format(path=row.path, bare=row.path.lstrip("/"))) is row


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "root",
    [
        "https://api.deepinfra.com/v1/openai",
        "https://gateway.ai.cloudflare.com/v1/0123456789abcdef/my-gateway/openai",
    ],
)
def test_a_root_below_a_version_is_found(row, root):
    """Gateways that put `openai` after their own version are called by absolute URL, too."""
    assert find("POST", root + row.path) is row


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_the_case_of_the_method_does_not_matter(row, spell):
    """The SDK writes `post`, users of `client.request` write `POST`."""
    assert find(spell(row.method), row.path) is row


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", ""])
@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_only_the_method_that_creates_is_billed(row, method):
    """Listing and deleting are free of charge."""
    assert find(method, row.path) is None
    assert find(method, f"{HOST}/v1{row.path}") is None


@pytest.mark.parametrize(
    "prefix", ["", "/v1", HOST + "/v1", AZURE + "/openai/deployments/gpt-4o", AZURE + "/openai/v1"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/responses/resp_1",
        "/responses/resp_1/cancel",
        "/responses/resp_1/input_items",
        "/responses/input_tokens",
        "/chat/completions/chatcmpl-1",
        "/chat/completions/chatcmpl-1/messages",
        "/chat",
        "/embeddings/x",
        "/models",
        "/models/embeddings",
        "/files/responses",
        "/moderations",
        "/v2/responses",
        "/Responses",
        "",
        "/",
    ],
)
def test_ids_and_sub_paths_are_not_the_call_that_creates(prefix, path):
    """Fetching, cancelling or updating a stored answer is not billed again."""
    assert find("POST", prefix + path) is None


@pytest.mark.parametrize(("path", "row"), [("/responses?x=/embeddings", RESPONSES), ("/files?x=/embeddings", None)])
def test_a_path_within_the_query_is_no_path(path, row):
    """Only the path decides."""
    assert find("POST", path) is row


@pytest.mark.parametrize("url", ["", "?", "#", "//", "//[", "https://[::1", "http://[/v1/embeddings", "\x00", "é" * 99])
def test_no_url_raises(url):
    """A URL that makes no sense is the SDK's to refuse."""
    assert find("POST", url) is None


def test_rows_say_how_they_are_called_and_read():
    """Each row has a name and a path of its own; the streams that need `include_usage` are exactly the chat ones."""
    assert (
        len({row.name for row in OPERATIONS}) == len({(row.method, row.path) for row in OPERATIONS}) == len(OPERATIONS)
    )
    assert all(row.method == row.method.upper() and row.path.startswith("/") for row in OPERATIONS)
    assert [row for row in OPERATIONS if row.asks_for_usage] == [CHAT_COMPLETIONS]
    assert EMBEDDINGS.observe is None
