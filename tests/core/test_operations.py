"""What: which requests are billable calls."""

from __future__ import annotations

import pytest

from openai_metering.operations import CALLS, EMBEDDINGS, OPERATIONS, RESPONSES, find, job_in

HOST = "https://api.openai.com"
AZURE = "https://acme.openai.azure.com"


def filled(row):
    return row.path.replace("{}", "id_1")


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
    path = filled(row)
    assert find(row.method, url.format(path=path, bare=path.lstrip("/"))) is row


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
    assert find(row.method, root + filled(row)) is row


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_the_case_of_the_method_does_not_matter(row, spell):
    """The SDK writes `post`, users of `client.request` write `POST`."""
    assert find(spell(row.method), filled(row)) is row


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", ""])
@pytest.mark.parametrize("row", CALLS, ids=lambda row: row.name)
def test_only_the_method_that_creates_is_billed(row, method):
    """Listing, looking and deleting are free of charge."""
    for url in (filled(row), f"{HOST}/v1{filled(row)}"):
        found = find(method, url)
        assert found is None or found.of is not None


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
    found = find("POST", prefix + path)
    assert found is None or found.of is not None


@pytest.mark.parametrize(("path", "row"), [("/responses?x=/embeddings", RESPONSES), ("/files?x=/embeddings", None)])
def test_a_path_within_the_query_is_no_path(path, row):
    """Only the path decides."""
    assert find("POST", path) is row


@pytest.mark.parametrize("url", ["", "?", "#", "//", "//[", "https://[::1", "http://[/v1/embeddings", "\x00", "é" * 99])
def test_no_url_raises(url):
    """A URL that makes no sense is the SDK's to refuse."""
    assert find("POST", url) is None


def test_rows_say_how_they_are_called_and_read():
    """Each row has a name and a path of its own; the streams that need `include_usage` are those of completions."""
    assert (
        len({row.name for row in OPERATIONS}) == len({(row.method, row.path) for row in OPERATIONS}) == len(OPERATIONS)
    )
    assert all(row.method == row.method.upper() and row.path.startswith("/") for row in OPERATIONS)
    assert [row.name for row in OPERATIONS if row.asks_for_usage] == ["chat.completions", "completions"]
    assert EMBEDDINGS.observe is None


def test_the_sights_of_a_job_are_known_and_not_billed():
    """What looks at a job is a row of its own that belongs to the job."""
    for row in CALLS:
        for method, path in row.job.sights if row.job else ():
            sight = find(method, path.replace("{}", "id_1"))
            assert sight.of in CALLS
            assert (sight.of.job.name, sight.kind) == (row.job.name, row.kind)
            assert job_in(sight, f"{HOST}/v1{path.replace('{}', 'id_1')}") == "id_1"
    assert all(row.of is None for row in CALLS)


@pytest.mark.parametrize(
    ("method", "url", "identifier"),
    [
        ("GET", "/responses/resp_1?stream=true", "resp_1"),
        ("POST", "/responses/resp_1/cancel", "resp_1"),
        ("GET", AZURE + "/openai/v1/responses/resp_1", "resp_1"),
        ("POST", "/threads/thread_1/runs/run_1/submit_tool_outputs", "run_1"),
        ("POST", "/evals/eval_1/runs/run_1", "run_1"),
        ("POST", "/responses", None),
    ],
)
def test_a_path_names_the_job_that_it_looks_at(method, url, identifier):
    """The last segment that is filled in."""
    assert job_in(find(method, url), url) == identifier


@pytest.mark.parametrize("path", ["/videos//remix", "/videos/a/b/remix", "/threads/t/runs/r/submit_tool_outputs/x"])
def test_a_template_takes_exactly_one_segment(path):
    """A segment that is filled in is never empty and never two."""
    assert find("POST", path) is None
