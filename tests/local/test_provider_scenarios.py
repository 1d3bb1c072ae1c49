"""Each row of the provider stand-in's table of scenarios, as the real SDK meets it."""

import threading

import openai
import pytest
from entries import HAS_RESPONSES, KINDS, MESSAGES, STREAMS, async_events, body, events, last_usage, stream, text_of

from openai_metering.local.provider import ProviderStandIn
from openai_metering.local.scenarios import SCENARIOS
from openai_metering.local.wire import ERROR_TEXT, usage_of
from waiting import wait_for

DETAILS_NULL = {"prompt_tokens_details": None, "completion_tokens_details": None}
# What becomes of the usage {"prompt_tokens": 1007, ...} of the first chat completion.
USAGE = {
    "usage_null": lambda usage: usage is None,
    "usage_zero": lambda usage: usage["prompt_tokens"] == usage["prompt_tokens_details"]["cached_tokens"] == 0,
    "usage_strings": lambda usage: usage["prompt_tokens"] == "1007",
    "usage_negative": lambda usage: usage["prompt_tokens"] == -1008,
    "usage_float": lambda usage: usage["prompt_tokens"] == 1007.5,
    "usage_huge": lambda usage: usage["prompt_tokens"] == 2**70,
    "usage_garbage": lambda usage: usage == 7,
    "details_null": lambda usage: usage == usage_of("chat", 1) | DETAILS_NULL,
}
ENDS = {"response_failed": "failed", "response_incomplete": "incomplete", "length": "incomplete"}
needs_responses = pytest.mark.skipif(not HAS_RESPONSES, reason="this SDK has no Responses API")


@pytest.mark.parametrize("scenario", USAGE)
def test_odd_usage_of_a_plain_answer(provider, client, scenario):
    """The usage is odd in the way that the row says, and the journal has it as sent."""
    received = body(client, "chat", scenario)["usage"]
    assert USAGE[scenario](received)
    assert provider.served[0].usage == (received if isinstance(received, dict) else None)


@pytest.mark.parametrize("scenario", USAGE)
def test_odd_usage_of_a_stream(provider, client, scenario):
    """The journal has what went over the wire at the stream's end."""
    _, error = events(client, "chat", scenario)
    assert error is None
    (served,) = provider.wait_served(1)
    assert USAGE[scenario](7 if scenario == "usage_garbage" else served.usage)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_usage(provider, client, kind):
    """There is no such field, plain or streamed."""
    assert "usage" not in body(client, kind, "usage_missing")
    if kind in STREAMS:
        seen, _ = events(client, kind, "usage_missing")
        assert not any(event.get("usage") or (event.get("response") or {}).get("usage") for event in seen)
        assert provider.wait_served(2)[1].usage is None


def test_odd_choices(provider, client):
    """Choices are null or not there, in the body and in one chunk."""
    assert body(client, "chat", "choices_null")["choices"] == [None]
    assert "choices" not in body(client, "chat", "choices_missing")
    assert events(client, "chat", "choices_null")[0][1]["choices"] == [None]
    assert "choices" not in events(client, "chat", "choices_missing")[0][1]


def test_running_totals_grow_to_the_usage(provider, client):
    """Each chunk has usage, more than the one before, and the last one's is the true one."""
    seen, _ = events(client, "chat", "running_totals")
    totals = [chunk["usage"]["total_tokens"] for chunk in seen]
    assert len(totals) == 8
    assert totals == sorted(set(totals))
    assert totals[-1] == usage_of("chat", 1)["total_tokens"]


@pytest.mark.parametrize("options", [{"include_usage": True}, None])
def test_usage_where_others_put_it(provider, client, options):
    """In the chunk that finishes, or below x_groq, asked for or not."""
    seen, _ = events(client, "chat", "usage_in_finish_chunk", stream_options=options)
    assert seen[-1]["choices"][0]["finish_reason"] == "stop"
    assert seen[-1]["usage"] == usage_of("chat", 1)
    seen, _ = events(client, "chat", "usage_in_x_groq", stream_options=options)
    assert seen[-1]["x_groq"]["usage"] == usage_of("chat", 2) == provider.wait_served(2)[1].usage
    assert "usage" not in seen[-1]


def test_azures_first_chunk(provider, client):
    """It has no choices, no id and no model, but filter results."""
    seen, _ = events(client, "chat", "first_chunk_empty_choices")
    assert (seen[0]["choices"], seen[0]["id"], seen[0]["model"]) == ([], "", "")
    assert seen[0]["prompt_filter_results"]
    assert seen[1]["id"] == "chatcmpl-00000001"


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stream_that_is_cut(provider, client, kind, form):
    """Three events arrive, then the connection breaks, and no usage was sent."""
    seen, error = events(client, kind, "cut") if form == "sync" else async_events(provider, kind, "cut")
    assert len(seen) == 3
    assert error is not None
    assert provider.wait_served(1)[0].usage is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_answer_that_is_cut(provider, client, kind):
    """The body breaks off in its middle."""
    with pytest.raises(openai.APIConnectionError):
        body(client, kind, "cut")
    assert provider.wait_served(1)[0].usage is None


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_that_ends_too_early(provider, client, kind):
    """Three events and a clean end."""
    seen, error = events(client, kind, "eof")
    assert (len(seen), error) == (3, None)


def test_an_error_in_a_chat_stream(provider, client):
    """The SDK raises what the event says."""
    seen, error = events(client, "chat", "error_event")
    assert len(seen) == 3
    assert isinstance(error, openai.APIError)
    assert ERROR_TEXT in str(error)


@needs_responses
def test_an_error_in_a_responses_stream(provider, client):
    """The error is the last event, or the SDK raises it."""
    seen, error = events(client, "responses", "error_event")
    assert ERROR_TEXT in str(error or seen[-1])


@needs_responses
@pytest.mark.parametrize("scenario", ENDS)
def test_a_response_that_does_not_complete(provider, client, scenario):
    """The answer and the last event tell the status, with usage."""
    assert body(client, "responses", scenario)["status"] == ENDS[scenario]
    seen, _ = events(client, "responses", scenario)
    assert seen[-1]["type"] == f"response.{ENDS[scenario]}"
    assert last_usage("responses", seen)["total_tokens"] == usage_of("responses", 2)["total_tokens"]


def test_a_completion_cut_off_by_length(provider, client):
    """The finish reason says so."""
    assert body(client, "chat", "length")["choices"][0]["finish_reason"] == "length"
    assert events(client, "chat", "length")[0][-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("scenario", "status", "named"),
    [("refuse_stream_options", 422, "stream_options"), ("refuse_include_usage_400", 400, "include_usage")],
)
def test_hosts_that_refuse_stream_options(provider, client, scenario, status, named):
    """They refuse the option by name, and answer a stream without it."""
    _, error = events(client, "chat", scenario)
    assert error.status_code == status
    assert named in str(error)
    seen, error = events(client, "chat", scenario, stream_options=openai.NOT_GIVEN)
    assert (len(seen), error) == (7, None)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("kind", KINDS)
def test_refusals(provider, client, kind, status):
    """An error of the provider's form, which costs nothing."""
    with pytest.raises(openai.APIStatusError, match=ERROR_TEXT) as caught:
        body(client, kind, f"status_{status}")
    assert caught.value.status_code == status
    (served,) = provider.served
    assert (served.n, served.status, served.usage) == (0, status, None)
    assert caught.value.response.headers["x-request-id"] == served.request_id


def test_a_third_attempt_succeeds(provider, client):
    """Two attempts of a call are refused, whatever other calls do, and only the third is billed."""
    retrying = client.with_options(max_retries=2)
    for _ in range(2):
        body(retrying, "chat", "retry_twice")
    assert [served.status for served in provider.served] == [429, 429, 200] * 2
    assert [served.n for served in provider.served] == [0, 0, 1, 0, 0, 2]


def test_no_answer_until_the_client_leaves(provider, client):
    """The client's timeout ends the call; the journal knows that no answer was begun."""
    with pytest.raises(openai.APITimeoutError):
        body(client.with_options(timeout=0.1), "chat", "timeout")
    (served,) = provider.wait_served(1)
    assert (served.status, served.usage) == (0, None)


@pytest.mark.parametrize("scenario", ["timeout", "hold"])
def test_clients_that_wait_do_not_keep_the_provider_from_stopping(scenario):
    """Stopping ends what is not answered."""
    errors = []

    def call(url):
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0, timeout=30) as client:
            try:
                list(stream(client, "chat", scenario))
            except Exception as error:
                errors.append(error)

    with ProviderStandIn() as provider:
        thread = threading.Thread(target=call, args=(provider.base_url,))
        thread.start()
        wait_for(lambda: provider.in_progress)
    thread.join(20)
    assert not thread.is_alive()
    assert len(errors) == 1


@pytest.mark.parametrize("kind", STREAMS)
def test_a_held_stream_delivers_what_came_before(provider, client, kind):
    """Two events arrive while the third is held back; the rest comes after the release."""
    held = iter(stream(client, kind, "hold"))
    first = [next(held).to_dict() for _ in range(2)]
    assert provider.served == []
    provider.release()
    seen = first + [event.to_dict() for event in held]
    assert text_of(kind, seen) == "answer 1 word1 word2 word3 word4"


@pytest.mark.parametrize("scenario", ["gzip", "slow", "wrong_content_type"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_ways_of_the_same_answer(provider, client, kind, scenario):
    """Compressed, slow or wrongly labelled, the content is the usual one."""
    assert body(client, kind, scenario)["usage"] == usage_of(kind, 1)
    if kind in STREAMS:
        seen, error = events(client, kind, scenario, headers={"x-standin-pause-ms": "1"})
        assert error is None
        assert text_of(kind, seen) == "answer 2 word1 word2 word3 word4"


def test_a_page_of_html_with_status_200(provider, client):
    """A proxy's page is what the SDK has to make do with."""
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=MESSAGES, extra_headers={"x-standin-scenario": "not_json"}
    )
    assert answer.http_response.text.startswith("<html>")
    assert provider.served[0].usage is None


@pytest.mark.parametrize("kind", STREAMS)
def test_a_big_answer(provider, client, kind):
    """Two mebibytes of text arrive, plain and streamed."""
    assert len(str(body(client, kind, "big"))) > 2 * 1024 * 1024
    assert len(text_of(kind, events(client, kind, "big")[0])) == 2 * 1024 * 1024


def test_scenarios_can_be_a_clients_default(provider):
    """The header may come with every request of a client."""
    headers = {"x-standin-scenario": "status_404"}
    with openai.OpenAI(base_url=provider.base_url, api_key="k", default_headers=headers) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError):
            client.models.list()


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"timeout", "hold", "slow"}))
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_breaks_the_stand_in(provider, client, kind, scenario):
    """In every scenario every endpoint answers, and the next call is as usual."""
    for send in (body, events) if kind in STREAMS else (body,):
        try:
            send(client, kind, scenario)
        except openai.OpenAIError:
            pass  # as some rows want
        except ValueError:
            assert scenario == "not_json"
    assert body(client, kind)["usage"] == provider.served[-1].usage
    assert all(served.status != 500 or scenario == "status_500" for served in provider.served)
    assert provider.violations == []
