"""What the provider stand-in promises to the real SDK."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from entries import HAS_RESPONSES, KINDS, MESSAGES, STREAMS, async_events, body, events, last_usage, text_of
from pydantic import BaseModel

from openai_metering.local.journal import Journal, Served
from openai_metering.local.numbers import chat_usage, response_usage, served_model
from openai_metering.local.provider import ProviderStandIn
from openai_metering.local.schema import filled
from openai_metering.local.wire import usage_of

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
needs_responses = pytest.mark.skipif(not HAS_RESPONSES, reason="this SDK has no Responses API")


def post(url, payload, **headers):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    try:
        with direct.open(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# -- Numbers
def test_no_two_requests_use_the_same():
    """The token totals of the first thousand requests are all different."""
    for usage in (chat_usage, response_usage):
        totals = [usage(n)["total_tokens"] for n in range(1, 1001)]
        assert len(set(totals)) == 1000


def test_parts_are_never_more_than_their_total():
    """Cached, reasoning and audio tokens stay within the totals that include them."""
    for n in range(1, 500):
        usage = chat_usage(n)
        assert sum(usage["prompt_tokens_details"].values()) <= usage["prompt_tokens"]
        assert sum(usage["completion_tokens_details"].values()) <= usage["completion_tokens"]


@pytest.mark.parametrize(
    ("asked", "served"),
    [("gpt-4o", "gpt-4o-2025-01-01"), ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"), ("o3", "o3-2025-01-01")],
)
def test_the_served_model_is_a_snapshot(asked, served):
    """A model without a date is served by its dated snapshot."""
    assert served_model(asked) == served


# -- Answers
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_answer_is_in_the_journal_with_the_usage_that_was_sent(provider, client, kind):
    """What the client received and what the journal says are the same."""
    received = body(client, kind)
    (served,) = provider.served
    assert (served.n, served.status, served.stream) == (1, 200, False)
    assert received["usage"] == served.usage == usage_of(kind, 1)
    assert received["model"] == served.model
    assert received.get("id", "") == served.response_id
    assert served.json["model"] == json.loads(served.body)["model"]
    assert provider.by_request_id[served.request_id] is served
    assert served.headers["authorization"] == "Bearer sk-test"
    assert provider.violations == []


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stream_ends_with_usage(provider, client, kind, form):
    """Five pieces of content, then usage, for the synchronous and the asynchronous client alike."""
    seen, error = events(client, kind) if form == "sync" else async_events(provider, kind)
    assert error is None
    assert text_of(kind, seen) == "answer 1 word1 word2 word3 word4"
    (served,) = provider.wait_served(1)
    assert served.stream
    assert served.usage == usage_of(kind, 1)
    received = last_usage(kind, seen)
    assert {name: received[name] for name in served.usage} == served.usage


def test_a_chat_stream_has_no_usage_unless_it_is_asked_for(provider, client):
    """Without include_usage neither the wire nor the journal has any."""
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    seen = [chunk.to_dict() for chunk in stream]
    assert all("usage" not in chunk and chunk["choices"] for chunk in seen)
    assert provider.wait_served(1)[0].usage is None


def test_a_chat_stream_asked_for_usage_says_null_until_the_end(provider, client):
    """With include_usage each chunk but the last has a null, and the last has no choices."""
    seen, _ = events(client, "chat")
    assert [chunk["usage"] for chunk in seen[:-1]] == [None] * 7
    assert seen[-1]["choices"] == []


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_number_of_chunks_is_the_clients_choice(provider, client, count):
    """The header x-standin-chunks says how many pieces of content there are."""
    seen, _ = events(client, "chat", headers={"x-standin-chunks": str(count)})
    assert len(seen) == count + 3  # role, finish, usage


@needs_responses
def test_the_events_of_a_response_are_numbered(provider, client):
    """Sequence numbers begin at 0 and have no gap."""
    seen, _ = events(client, "responses")
    assert [event["sequence_number"] for event in seen] == list(range(13))


@pytest.mark.parametrize("wanted", ["float", "base64"])
def test_embeddings_are_as_asked(provider, client, wanted):
    """Floats and base64 hold the same vector."""
    answer = client.embeddings.create(model="e", input=["a", "b"], encoding_format=wanted)
    assert len(answer.data) == 2
    if wanted == "float":
        assert answer.data[0].embedding == [n / 16 for n in range(1, 9)]
    else:
        plain = client.embeddings.create(model="e", input="a")  # the SDK decodes base64 of its own accord
        assert plain.data[0].embedding == [n / 16 for n in range(2, 10)]


def test_a_hundred_concurrent_calls_have_a_hundred_numbers(provider, client):
    """Each call's numbers are its own, whatever runs beside it."""
    with ThreadPoolExecutor(16) as pool:
        received = list(pool.map(lambda _: body(client, "chat"), range(100)))
    by_response = {served.response_id: served for served in provider.wait_served(100)}
    assert {served.n for served in by_response.values()} == set(range(1, 101))
    for answer in received:
        assert answer["usage"] == by_response[answer["id"]].usage


def test_every_path_is_answered(provider, client):
    """Methods that are not billed here get a small object and no number."""
    assert client.models.list().data[0].id == "gpt-4o"
    assert client.files.create(file=b"{}", purpose="batch").id
    assert client.batches.retrieve("batch_7").id == "batch_7"
    assert client.moderations.create(input="x") is not None
    assert [served.n for served in provider.served] == [0, 0, 0, 0]
    assert provider.violations == []


@pytest.mark.parametrize("kind", KINDS)
def test_azure_forms_are_answered(provider, kind):
    """Deployment paths and the api-version query are those of Azure."""
    azure = openai.AzureOpenAI(azure_endpoint=provider.azure_endpoint, api_key="k", api_version="2025-03-01-preview")
    with azure as client:
        assert body(client, kind)["usage"] == usage_of(kind, 1)
    (served,) = provider.served
    assert served.path.startswith("/openai/")
    assert served.query == {"api-version": "2025-03-01-preview"}
    assert provider.violations == []


# -- Structured output
class Inner(BaseModel):
    """Part of a structured answer."""

    name: str
    flag: bool


class Answer(BaseModel):
    """A structured answer."""

    count: int
    note: str | None
    inner: list[Inner]


def test_chat_parse_gets_an_object_of_the_schema(provider, client):
    """The content is valid for the response format."""
    completions = getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse
    parsed = completions(model="gpt-4o", messages=MESSAGES, response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(count=7, note="text", inner=[Inner(name="text", flag=True)])


@needs_responses
def test_responses_parse_gets_an_object_of_the_schema(provider, client):
    """The output text is valid for the text format."""
    assert client.responses.parse(model="gpt-4o", input="x", text_format=Answer).output_parsed.count == 7


def test_a_schema_that_refers_to_itself_has_an_end():
    """A recursive schema gives a finite value."""
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    assert json.dumps(filled({"$ref": "#/$defs/node", "$defs": {"node": node}}))


def test_the_chat_stream_helper_works(provider, client):
    """The SDK's own helper reads the stream to its final completion."""
    completions = (
        client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    )
    with completions.stream(model="gpt-4o", messages=MESSAGES, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()
    assert final.usage.total_tokens == chat_usage(1)["total_tokens"]


@needs_responses
def test_the_response_stream_helper_works(provider, client):
    """The SDK's own helper reads the stream to its final response."""
    with client.responses.stream(model="gpt-4o", input="x") as stream:
        final = stream.get_final_response()
    assert final.output_text == "answer 1 word1 word2 word3 word4"
    assert final.usage.total_tokens == response_usage(1)["total_tokens"]


# -- Stored responses
@needs_responses
def test_a_background_response_completes_after_two_polls(provider, client):
    """Usage arrives with the retrieval that finds the response completed, and belongs to the first request."""
    extra = {"extra_body": {"background": True}}
    queued = client.responses.create(model="gpt-4o", input="x", **extra)
    assert (queued.status, queued.usage) == ("queued", None)
    polls = [client.responses.retrieve(queued.id) for _ in range(3)]
    assert [poll.status for poll in polls] == ["in_progress", "in_progress", "completed"]
    assert polls[-1].usage.total_tokens == response_usage(1)["total_tokens"]
    assert [served.n for served in provider.served] == [1, 0, 0, 0]
    assert [served.usage for served in provider.served[:3]] == [None] * 3
    assert {served.response_id for served in provider.served} == {queued.id}


@needs_responses
def test_history_is_answered_with_the_usage_of_then(provider, client):
    """Retrieval gives the same response again, under no new number."""
    first = client.responses.create(model="gpt-4o", input="x")
    again = client.responses.retrieve(first.id)
    assert (again.id, again.usage, again.output_text) == (first.id, first.usage, first.output_text)
    assert client.responses.retrieve("resp_elsewhere").id == "resp_elsewhere"


# -- Strictness
@pytest.mark.parametrize(
    ("payload", "headers", "said"),
    [
        ({"usage_metadata": {}}, {}, "usage_metadata"),
        ({"metadata": {"organization_id": "a"}}, {}, "organization_id"),
        ({"subscriber_identity": "joe"}, {}, "subscriber_identity"),
        ({}, {"x_organization_id": "a"}, "x-organization-id"),
        ({}, {"baggage": "attribution.organization.id=Acme"}, "baggage"),
        ({}, {"x_thing": "<openai.Omit object at 0x7f00aa>"}, "Python object"),
        ({}, {"x_thing": "NOT_GIVEN"}, "Python object"),
        ({}, {"x_thing": "{'a': 1}"}, "Python object"),
        ({"messages": None}, {}, "missing: messages"),
        ({"model": None}, {}, "missing: model"),
        ({}, {"content_type": "text/plain"}, "not a JSON object"),
        ({}, {"x_standin_scenario": "no_such"}, "no_such"),
    ],
)
def test_what_no_client_may_send_is_refused_and_remembered(provider, payload, headers, said):
    """The answer is 400 in the provider's form, and the test can ask for it later."""
    good = {"model": "gpt-4o", "messages": MESSAGES}
    status, answer = post(f"{provider.base_url}/chat/completions", good | payload, **headers)
    assert status == 400
    assert said in answer["error"]["message"]
    assert said in provider.violations[0]
    assert provider.served[0].n == 0


def test_a_body_that_is_not_json_is_refused(provider):
    """Neither broken JSON nor a list is a request."""
    for broken in (b"{", b"[]", b""):
        assert post(f"{provider.base_url}/responses", broken)[0] == 400


def test_the_query_is_looked_at_too(provider):
    """Attribution in the URL is refused, and Azure's paths need their version."""
    good = {"model": "gpt-4o", "messages": MESSAGES}
    assert post(f"{provider.base_url}/chat/completions?organization_id=a", good)[0] == 400
    assert post(f"{provider.url}/openai/deployments/d/chat/completions", good)[0] == 400


def test_an_applications_own_words_are_not_ours(provider):
    """A prompt or a tool's schema may speak of an organization_id."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"organization_id": {}}}}}
    good = {"model": "m", "messages": [{"role": "user", "content": "usage_metadata organization_id"}], "tools": [tool]}
    assert post(f"{provider.base_url}/chat/completions", good)[0] == 200
    assert provider.violations == []


# -- Life
def test_reset_begins_again(provider, client):
    """After a reset the next call has number 1 and the journal is empty."""
    first = body(client, "chat")
    request_id = provider.served[0].request_id
    provider.reset()
    assert provider.served == []
    assert body(client, "chat")["usage"] == first["usage"]
    assert provider.served[0].request_id != request_id


def test_waiting_has_an_end(provider):
    """What does not come is said, with the count."""
    with pytest.raises(TimeoutError, match="0 of 1"):
        provider.wait_served(1, timeout=0.01)


def test_a_stand_in_that_was_not_started_says_so():
    """There is no address before the start."""
    with pytest.raises(RuntimeError, match="with statement"):
        _ = ProviderStandIn().base_url


@pytest.mark.parametrize("end", ["sigterm", "stdin"])
def test_it_runs_as_a_process_of_its_own(tmp_path, end):
    """One line says where it is, each request is a line of the journal without its key, and it ends when told."""
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "openai_metering.local.provider", "--journal", str(journal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        announced = json.loads(process.stdout.readline())
        with openai.OpenAI(base_url=announced["base_url"], api_key="sk-test") as client:
            received = body(client, "chat")
        usage = urllib.request.Request(
            f"{announced['base_url']}/organization/usage/completions?start_time={int(time.time()) - 3600}",
            headers={"authorization": f"Bearer {announced['admin_key']}"},
        )
        buckets = json.load(direct.open(usage))["data"]
        counted = [result["num_model_requests"] for bucket in buckets for result in bucket["results"]]
        assert counted == [1]  # its meters know what it served
        if end == "sigterm":
            os.kill(process.pid, signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(20) == 0
    line, _ = map(json.loads, journal.read_text().splitlines())  # the second one asked the meters
    assert line["usage"] == received["usage"]
    assert "sk-test" not in journal.read_text()
    assert "authorization" not in line["headers"]


def test_it_does_not_import_the_sdk():
    """The process that stands in for the provider needs no provider's package."""
    code = (
        "import sys, openai_metering.local.provider, openai_metering.local.receiver; assert 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("keep", [0, 2])
def test_the_journal_can_be_kept_out_of_memory(keep):
    """A benchmark's million requests are not held, but for the last ones."""
    journal = Journal(keep=keep)
    for number in range(1, 6):
        journal.add(Served(number, "GET", "/", {}, {}, b"", None, "", 200, None, False, "", "", ""))
    assert [one.n for one in journal.served] == [4, 5][2 - keep :]


def test_async_clients_are_served_side_by_side(provider):
    """Twenty calls of one event loop each get what the journal says."""

    async def calls():
        async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k") as client:
            create = client.chat.completions.create
            return await asyncio.gather(*(create(model="gpt-4o", messages=MESSAGES) for _ in range(20)))

    by_response = {answer.id: answer.usage.prompt_tokens for answer in asyncio.run(calls())}
    assert by_response == {served.response_id: served.usage["prompt_tokens"] for served in provider.served}
