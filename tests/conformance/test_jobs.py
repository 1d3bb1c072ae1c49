"""Work whose usage comes later: counted once, for who ordered it, by whoever sees its end."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import WHO

from openai_metering import attribution, deferred, jobs, operations
from openai_metering.finished import Request, Server
from openai_metering.local import numbers
from openai_metering.resolution import EMPTY, Attribution, resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATE, ID = "openai_metering.record.state", "openai_metering.record.id"
STATUS, REASON = "openai_metering.usage.status", "openai_metering.usage.reason"
OUTCOME, ORGANIZATION = "openai_metering.outcome", "attribution.organization.id"
INPUT, SECONDS = "gen_ai.usage.input_tokens", "openai_metering.usage.seconds"
TRAINED, INVOCATIONS = "openai_metering.usage.trained_tokens", "openai_metering.usage.invocations"
TAKES_KEYWORD = {"usage_metadata": WHO}


@pytest.fixture
def client(provider: Any) -> Any:
    with openai.OpenAI(base_url=provider.base_url, max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_ordered() -> None:
    """The stand-in numbers its jobs anew for each test."""
    deferred.waiting_jobs.forget_all()
    deferred.waiting_jobs._ended.clear()


def response_in_background(client: Any, **extra: Any) -> Any:
    return client.responses.create(model="gpt-4.1", input="Hello", extra_body={"background": True}, **extra)


def of(client: Any, path: str) -> Any:
    """A resource of this SDK, None where it has none."""
    for name in path.split("."):
        client = getattr(client, name, None)
    return client


JOBS: dict[str, tuple[str, Callable[..., Any], Callable[[Any, str], Any], str, float]] = {
    "responses": (
        "responses",
        response_in_background,
        lambda client, job: client.responses.retrieve(job),
        INPUT,
        numbers.response_usage(1)["input_tokens"],
    ),
    "batches": (
        "batches",
        lambda client, **extra: client.batches.create(
            completion_window="24h", endpoint="/v1/responses", input_file_id="file-1", **extra
        ),
        lambda client, job: client.batches.retrieve(job),
        INPUT,
        numbers.response_usage(1)["input_tokens"],
    ),
    "videos": (
        "videos",
        lambda client, **extra: client.videos.create(model="sora-2", prompt="a meter", **extra),
        lambda client, job: client.videos.retrieve(job),
        SECONDS,
        8,
    ),
    "fine_tuning.jobs": (
        "fine_tuning.jobs",
        lambda client, **extra: client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-1", **extra),
        lambda client, job: client.fine_tuning.jobs.retrieve(job),
        TRAINED,
        5001,
    ),
    "evals.runs": (
        "evals.runs",
        lambda client, **extra: client.evals.runs.create("eval_1", data_source={"type": "jsonl"}, **extra),
        lambda client, job: client.evals.runs.retrieve(job, eval_id="eval_1"),
        INPUT,
        202,
    ),
    "threads.runs": (
        "beta.threads.runs",
        lambda client, **extra: client.beta.threads.runs.create("thread_1", assistant_id="asst_1", **extra),
        lambda client, job: client.beta.threads.runs.retrieve(job, thread_id="thread_1"),
        INPUT,
        numbers.run_usage(1)["prompt_tokens"],
    ),
}
THERE = [name for name, (path, *_) in JOBS.items() if of(openai.OpenAI(api_key="test"), path) is not None]
HAS_RESPONSES = ["responses"] * ("responses" in THERE)
HAS_CANCEL = ["responses"] * (of(openai.OpenAI(api_key="test"), "responses.cancel") is not None)
responses_only = pytest.mark.parametrize("name", HAS_RESPONSES)


def until_ended(look: Callable[[], Any], tries: int = 5) -> Any:
    """Look at a job more often than it takes."""
    return [look() for _ in range(tries)][-1]


@pytest.mark.parametrize("name", THERE)
def test_a_job_is_billed_once_at_its_end_to_who_ordered_it(
    telemetry: Any, provider: Any, client: Any, name: str
) -> None:
    """One pending record when it is ordered, one final when its end is first seen, with the same id."""
    _, order, retrieve, unit, amount = JOBS[name]
    job = order(client, **TAKES_KEYWORD)
    (pending,) = telemetry.records
    assert (pending[STATE], pending[STATUS], pending[REASON]) == ("pending", "unknown", "deferred")
    with attribution(organization_id="Somebody who polls"):
        until_ended(lambda: retrieve(client, job.id))
    final = telemetry.records[-1]
    assert len(telemetry.records) == 2
    assert final[ID] == pending[ID]
    assert (final[STATE], final[STATUS], final[OUTCOME]) == ("final", "reported", "completed")
    assert final[unit] == amount
    same = [key for key in pending if key.startswith(("attribution.", "gen_ai.request", "server."))]
    assert {key: final[key] for key in same} == {key: pending[key] for key in same}
    assert final[ORGANIZATION] == WHO["organization_id"]
    assert final["openai_metering.operation"] == name
    assert len(telemetry.spans) == 1
    assert telemetry.total("openai_metering.calls") == 1
    if unit == INPUT:
        assert telemetry.total("gen_ai.client.inference.usage.input_tokens") == amount
    else:
        assert telemetry.total("openai_metering.units", unit=unit.rpartition(".")[2]) == amount
    assert {served.n for served in provider.served} == {0, 1}


@pytest.mark.parametrize("name", THERE)
def test_many_who_poll_count_once(telemetry: Any, client: Any, name: str) -> None:
    """Threads that see the same end at the same time make one record of it."""
    _, order, retrieve, _, _ = JOBS[name]
    job = order(client, **TAKES_KEYWORD)
    retrieve(client, job.id)
    retrieve(client, job.id)
    barrier = threading.Barrier(8)

    def look(_: int) -> None:
        barrier.wait()
        retrieve(client, job.id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(8)))
    assert [record[STATE] for record in telemetry.records] == ["pending", "final"]


FORMS: dict[str, Callable[[Any, str], Any]] = {
    "raw": lambda client, job: client.responses.with_raw_response.retrieve(job),
    "raw parsed": lambda client, job: client.responses.with_raw_response.retrieve(job).parse(),
    "with options": lambda client, job: client.with_options(timeout=20).responses.retrieve(job),
    "get": lambda client, job: client.get(f"/responses/{job}", cast_to=object),
    "whole url": lambda client, job: client.get(f"{client.base_url}responses/{job}", cast_to=object),
}


def streamed_response(client: Any, job: str) -> None:
    with client.responses.with_streaming_response.retrieve(job) as response:
        list(response.iter_bytes(7))


FORMS["streaming response"] = streamed_response


@responses_only
@pytest.mark.parametrize("form", FORMS)
def test_the_end_is_seen_in_every_form(telemetry: Any, client: Any, name: str, form: str) -> None:
    """However the caller looks."""
    job = JOBS[name][1](client, **TAKES_KEYWORD)
    until_ended(lambda: FORMS[form](client, job.id))
    assert [(record[STATE], record[ORGANIZATION]) for record in telemetry.records] == [
        ("pending", "AcmeSoft"),
        ("final", "AcmeSoft"),
    ]


@responses_only
def test_the_end_is_seen_by_another_client_in_a_task(telemetry: Any, provider: Any, client: Any, name: str) -> None:
    """The same process, whichever client, thread or task."""
    job = JOBS[name][1](client, **TAKES_KEYWORD)

    async def look() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url) as other:
            for _ in range(4):
                await other.responses.retrieve(job.id)

    asyncio.run(look())
    assert [record[STATE] for record in telemetry.records] == ["pending", "final"]


@responses_only
def test_a_resumed_stream_tells_the_end_once(telemetry: Any, client: Any, name: str) -> None:
    """A background stream that was left goes on at the provider; who resumes it sees the end; a replay adds nothing."""
    opened = client.responses.create(
        model="gpt-4.1", input="x", stream=True, extra_body={"background": True}, **TAKES_KEYWORD
    )
    with opened:
        for event in opened:
            if event.type == "response.output_text.delta":
                break
    (pending,) = telemetry.records
    assert (pending[STATE], pending[OUTCOME], pending[REASON]) == ("pending", "stopped", "deferred")
    (head,) = [record["gen_ai.response.id"] for record in telemetry.records]
    for _ in range(2):
        stream = client.get(
            f"/responses/{head}?stream=true&starting_after=2",
            cast_to=openai.types.responses.Response,
            stream=True,
            stream_cls=openai.Stream[openai.types.responses.ResponseStreamEvent],
        )
        for _event in stream:
            pass
    assert [record[STATE] for record in telemetry.records] == ["pending", "final"]
    assert telemetry.records[-1][INPUT] == numbers.response_usage(1)["input_tokens"]


@responses_only
def test_a_background_stream_that_is_read_to_its_end_is_one_record(telemetry: Any, client: Any, name: str) -> None:
    """Nothing is pending; and looking at it afterwards adds nothing."""
    events = [
        *client.responses.create(
            model="gpt-4.1", input="x", stream=True, extra_body={"background": True}, **TAKES_KEYWORD
        )
    ]
    record = telemetry.record()
    assert (record[STATE], record[STATUS], record[ORGANIZATION]) == ("final", "reported", "AcmeSoft")
    client.responses.retrieve(events[-1].response.id)
    assert len(telemetry.records) == 1


@responses_only
def test_a_stream_whose_end_another_has_told_adds_no_record(telemetry: Any, client: Any, name: str) -> None:
    """Cancelled, or polled, while it is still being read: the span ends, and the usage is counted once."""
    for event in client.responses.create(
        model="gpt-4.1", input="x", stream=True, extra_body={"background": True}, **TAKES_KEYWORD
    ):
        if event.type == "response.created":
            client.responses.retrieve(event.response.id)
    record = telemetry.record()
    assert (record[STATE], record[STATUS], record[ORGANIZATION]) == ("final", "reported", "AcmeSoft")
    assert len(telemetry.spans) == 1
    assert telemetry.total("openai_metering.calls") == 1
    assert telemetry.total("gen_ai.client.inference.usage.input_tokens") == record[INPUT]


@pytest.mark.parametrize("name", HAS_CANCEL)
def test_a_response_that_is_cancelled_ends(telemetry: Any, client: Any, name: str) -> None:
    """Usage that the provider does not tell is unknown, not zero."""
    job = JOBS[name][1](client, **TAKES_KEYWORD)
    client.responses.cancel(job.id)
    final = telemetry.records[-1]
    assert (final[STATE], final[OUTCOME], final[STATUS], final[REASON]) == (
        "final",
        "cancelled",
        "unknown",
        "not_sent",
    )
    assert final[ORGANIZATION] == "AcmeSoft"


@responses_only
def test_plain_retrieval_of_an_old_response_adds_nothing(telemetry: Any, client: Any, name: str) -> None:
    """A response that was no background work was billed when it was made."""
    response = client.responses.create(model="gpt-4.1", input="Hello")
    assert len(telemetry.records) == 1
    for _ in range(2):
        client.responses.retrieve(response.id)
        client.responses.retrieve("resp_of_somebody_else")
    assert len(telemetry.records) == 1


def test_lists_and_looks_that_fail_add_nothing(telemetry: Any, provider: Any, client: Any) -> None:
    """Pages of old jobs are history; a job that is not found has no end."""
    list(client.batches.list())
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_1", extra_headers={"x-standin-scenario": "status_404"})
    assert telemetry.records == []
    assert telemetry.spans == []


ELSEWHERE = """
import sys
import openai
from openai_metering import OpenAIInstrumentor

OpenAIInstrumentor().instrument()
client = openai.OpenAI(base_url=sys.argv[1])
for _ in range(4):
    getattr(client, sys.argv[2]).retrieve(sys.argv[3])
"""


@pytest.mark.parametrize("name", [name for name in ("responses", "batches", "videos") if name in THERE])
def test_another_process_tells_the_end_without_attribution(
    telemetry: Any, provider: Any, client: Any, name: str, tmp_path: Path
) -> None:
    """The same id, the provider's own times, and nobody's name: who it is for stands in the pending record."""
    from openai_metering.cli.records import parse

    job = JOBS[name][1](client, **TAKES_KEYWORD)
    (pending,) = telemetry.records
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, provider.base_url, name, job.id],
        check=True,
        env={**os.environ, "OPENAI_METERING_LEDGER_DIR": str(tmp_path), "OPENAI_METERING_ORGANIZATION_ID": "Poller"},
    )
    (line,) = [line for file in tmp_path.glob("*.jsonl") for line in file.read_bytes().splitlines()]
    (row,), problem = parse(line)
    assert problem is None
    assert (row.record_id, row.state, row.attribution) == (pending[ID], "final", "unattributed")
    assert (row.usage, row.operation) == ("reported", name)
    assert row.time_unix_nano in (1735689600 * 10**9, 1735689660 * 10**9)


def test_a_run_that_is_created_and_polled_is_one_consumption(telemetry: Any, provider: Any, client: Any) -> None:
    """The SDK's own helpers look as often as they must."""
    runs = client.beta.threads.runs
    runs.create_and_poll(thread_id="thread_1", assistant_id="asst_1", poll_interval_ms=1, **TAKES_KEYWORD)
    assert [record[STATE] for record in telemetry.records] == ["pending", "final"]
    assert telemetry.records[-1][INPUT] == numbers.run_usage(1)["prompt_tokens"]


@pytest.mark.parametrize("streamed", [False, True])
def test_outputs_of_tools_belong_to_their_run(telemetry: Any, client: Any, streamed: bool) -> None:
    """The run tells at its end what all of it used: submitting is no consumption of its own."""
    runs = client.beta.threads.runs
    run = runs.create("thread_1", assistant_id="asst_1", **TAKES_KEYWORD)
    outputs = {"thread_id": "thread_1", "tool_outputs": [{"tool_call_id": "c1", "output": "x"}]}
    if streamed:
        list(runs.submit_tool_outputs(run.id, stream=True, **outputs))
    else:
        runs.submit_tool_outputs(run.id, **outputs)
    until_ended(lambda: runs.retrieve(run.id, thread_id="thread_1"))
    assert [(record[STATE], record[ORGANIZATION]) for record in telemetry.records] == [
        ("pending", "AcmeSoft"),
        ("final", "AcmeSoft"),
    ]
    assert len(telemetry.spans) == 1


def listen(client: Any, session: str) -> None:
    for _ in client.beta.agents.sessions.events.stream(session):
        pass


AGENTS = ["agents"] * (of(openai.OpenAI(api_key="test"), "beta.agents.sessions") is not None)


@pytest.mark.parametrize("name", AGENTS)
def test_a_turn_of_an_agent_is_billed_to_who_spoke(telemetry: Any, client: Any, name: str) -> None:
    """What each message costs is told to whoever listens, and counted once; a tool's result is none."""
    sessions = client.beta.agents.sessions
    session = sessions.create(agent={"type": "inline"}, environment={"type": "hosted"}, input="Hi", **TAKES_KEYWORD)
    message = {"type": "agent.session.input.message", "content": "Hello"}
    sessions.events.create(session.id, events=[message], usage_metadata={"organization_id": "Globex"})
    sessions.events.create(session.id, events=[{"type": "agent.session.input.tool_result"}])
    assert [record[STATE] for record in telemetry.records] == ["pending", "pending"]
    listen(client, session.id)
    listen(client, session.id)
    pending, final = telemetry.records[:2], telemetry.records[2:]
    assert [record[ID] for record in final[:2]] == [record[ID] for record in pending]
    assert [record[ORGANIZATION] for record in final] == ["AcmeSoft", "Globex"]
    assert [record[INPUT] for record in final] == [numbers.response_usage(n)["input_tokens"] for n in (1, 2)]
    assert len({record[ID] for record in telemetry.records}) == 2


def test_turns_of_one_session_are_told_apart_by_their_time() -> None:
    """Whoever spoke at the second in which a turn began pays for it, though an older message still waits."""
    job, operation = jobs.AGENT_TURN, operations.find("POST", "/agents/sessions/s1/events")
    server, second = Server("openai", "localhost", 1), 1_000_000_000
    ordered = {}
    for name, moment in (("first", 100), ("second", 110), ("third", 120)):
        who = resolve(Attribution(organization_id=name), EMPTY, EMPTY)
        started = moment * second + 700_000_000
        ordered[name] = deferred.order(job, "s1", operation, server, Request(), who, None, started)

    def told(step: str, began: int | None) -> str | None:
        first, waiting = deferred.end(job, "s1", step, server, began)
        assert first
        return None if waiting is None else waiting.who.attribution.organization_id

    assert told("t2", 110 * second) == "second"
    assert told("t?", None) == "first"
    assert told("t3", 121 * second) == "third"
    assert told("t4", 130 * second) is None


@pytest.mark.parametrize("name", AGENTS)
def test_a_session_that_is_streamed_tells_its_turn_itself(telemetry: Any, client: Any, name: str) -> None:
    """Who listens beside, or afterwards, adds nothing."""
    sessions = client.beta.agents.sessions
    for event in sessions.create(
        agent={"type": "inline"}, environment={"type": "hosted"}, stream=True, **TAKES_KEYWORD
    ):
        if event.type == "agent.session.created":
            session = event.session.id
        elif event.type == "agent.session.turn.created":
            listen(client, session)
    listen(client, session)
    record = telemetry.record()
    assert (record[STATE], record[STATUS], record[ORGANIZATION]) == ("final", "reported", "AcmeSoft")
    assert telemetry.total("gen_ai.client.inference.usage.input_tokens") == record[INPUT]


@pytest.mark.parametrize("name", AGENTS)
def test_a_session_without_input_starts_nothing(telemetry: Any, client: Any, name: str) -> None:
    """Nothing is billed before somebody speaks."""
    client.beta.agents.sessions.create(agent={"type": "inline"}, environment={"type": "hosted"})
    assert telemetry.records == telemetry.spans == []


RESPONSE_BODY = {"id": "resp_1", "object": "response", "background": True, "model": "m", "output": []}
USED = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class Answers:
    """A server in memory that gives one answer after the other."""

    def __init__(self, *bodies: Any) -> None:
        import openai._base_client as base

        http = getattr(base, "httpx2", None) or base.httpx
        left = list(bodies)
        transport = http.MockTransport(lambda request: http.Response(200, json=left.pop(0)))
        self.client = openai.OpenAI(max_retries=0, http_client=http.Client(transport=transport))


@responses_only
@pytest.mark.parametrize(
    "odd",
    [{}, [], {"error": {"code": "x"}}, {**RESPONSE_BODY, "status": None}, {**RESPONSE_BODY, "status": "cancelling"}],
    ids=str,
)
def test_an_odd_look_is_no_end(telemetry: Any, name: str, odd: Any) -> None:
    """Only a terminal state is one; the real end is still counted."""
    queued = {**RESPONSE_BODY, "status": "queued", "usage": {"input_tokens": 0, "output_tokens": 0}}
    client = Answers(queued, odd, {**RESPONSE_BODY, "status": "completed", "usage": USED}).client
    job = response_in_background(client, **TAKES_KEYWORD)
    client.get(f"/responses/{job.id}", cast_to=object)
    assert [(record[STATE], record[STATUS]) for record in telemetry.records] == [("pending", "unknown")]
    client.get(f"/responses/{job.id}", cast_to=object)
    assert [(record[STATE], record.get(INPUT)) for record in telemetry.records] == [("pending", None), ("final", 10)]


@responses_only
def test_a_server_that_gives_an_id_twice_loses_nothing(telemetry: Any, name: str) -> None:
    """Each order is a consumption of its own."""
    done = {**RESPONSE_BODY, "status": "completed", "usage": USED}
    queued = {**RESPONSE_BODY, "status": "queued"}
    client = Answers(done, done, queued, done, queued, done).client
    for _ in range(2):
        response_in_background(client)
    for _ in range(2):
        client.get(f"/responses/{response_in_background(client).id}", cast_to=object)
    final = [record for record in telemetry.records if record[STATE] == "final"]
    assert len({record[ID] for record in final}) == len(final) == 4
    assert telemetry.total("gen_ai.client.inference.usage.input_tokens") == 40


@responses_only
def test_an_end_belongs_to_the_last_job_of_its_id(telemetry: Any, name: str) -> None:
    """A server that gives the id of a job which has not ended away again means the new one from then on."""
    done = {**RESPONSE_BODY, "status": "completed", "usage": USED}
    queued = {**RESPONSE_BODY, "status": "queued"}
    client = Answers(queued, queued, queued, done).client
    jobs = [response_in_background(client) for _ in range(3)]
    assert len(deferred.waiting_jobs) == 1
    client.get(f"/responses/{jobs[-1].id}", cast_to=object)
    pending, final = ([record[ID] for record in telemetry.records if record[STATE] == s] for s in ("pending", "final"))
    assert len(set(pending)) == 3
    assert final == pending[-1:]


@responses_only
def test_looks_are_no_calls_under_way(provider: Any, tmp_path: Path, name: str) -> None:
    """However long one takes, it leaves no line of its own, and nothing in memory."""
    from openai_metering import OpenAIInstrumentor, call

    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(ledger_dir=str(tmp_path), ledger_started_after=0)
    try:
        with openai.OpenAI(base_url=provider.base_url) as client:
            job = response_in_background(client)
            before = len(call.calls_under_way)
            for _ in range(5):
                client.responses.retrieve(job.id)
            assert len(call.calls_under_way) == before
    finally:
        instrumentor.uninstrument()


def test_jobs_are_bounded_in_number_and_age(telemetry: Any, client: Any, monkeypatch: Any, caplog: Any) -> None:
    """The oldest is forgotten, which is said once; its end still has the id of its pending record."""
    monkeypatch.setattr(deferred, "MAX_JOBS", 2)
    batches = [JOBS["batches"][1](client, **TAKES_KEYWORD) for _ in range(4)]
    assert len(deferred.waiting_jobs) == 2
    assert [record.getMessage() for record in caplog.records if "waited for" in record.getMessage()] != []
    for batch in batches:
        until_ended(lambda job=batch: client.batches.retrieve(job.id))
    pending, final = ([r for r in telemetry.records if r[STATE] == state] for state in ("pending", "final"))
    assert [record[ID] for record in final] == [record[ID] for record in pending]
    assert [record.get(ORGANIZATION) for record in final] == [None, None, "AcmeSoft", "AcmeSoft"]
    monkeypatch.setattr(deferred, "MAX_AGE", -1)
    JOBS["batches"][1](client)
    JOBS["batches"][1](client)
    assert len(deferred.waiting_jobs) <= 1


def test_memory_does_not_grow_with_jobs_that_have_ended(telemetry: Any, client: Any) -> None:
    """Nothing waits for what has ended."""
    before = len(deferred.waiting_jobs)
    for _ in range(20):
        job = JOBS["batches"][1](client)
        until_ended(lambda job=job: client.batches.retrieve(job.id))
    gc.collect()
    assert len(deferred.waiting_jobs) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_ordered_nothing(telemetry: Any, client: Any) -> None:
    """It knows of none of its parent's jobs."""
    JOBS["batches"][1](client, **TAKES_KEYWORD)
    assert len(deferred.waiting_jobs) >= 1
    child = os.fork()
    if child == 0:
        os._exit(len(deferred.waiting_jobs))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_job_has_its_test() -> None:
    """A job that is added to the table is tested here, too."""
    from openai_metering import jobs

    named = {job.name for job in vars(jobs).values() if isinstance(job, jobs.Job)}
    assert named == {*JOBS, "agents.turns"}
