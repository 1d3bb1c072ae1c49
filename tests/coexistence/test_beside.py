"""Beside other instrumentations, and below packages that call through `openai`: one record for each request, and one span."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from application import CALLS, INSTRUMENTORS, KEYWORD, SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
OURS = "openai_metering"

# Theirs before ours and after it; ours taken out first, and last; and what is left of both is there for the next.
ORDERS = [
    "theirs,ours,call,-ours,call,ours,-theirs,call",
    "theirs,ours,call,-theirs,call,-ours",
    "ours,theirs,call,-ours,call,ours,-theirs,call",
    "ours,theirs,call,-theirs,-ours,ours,call,-ours",
]

# The calls for which a package has no span while they are made: Traceloop makes those of Responses afterwards, and the
# first official package knows nothing but `create()` of chat and embeddings.
SPAN_AFTERWARDS = {"traceloop": {"response", "response_streamed", "async_response_read_late"}}
NO_SPAN = {
    "official_v2": {"parsed", "response", "response_streamed", "async_response_read_late"},
    "official": {  # LiteLLM posts by itself
        "litellm_plain",
        "litellm_streamed",
        "litellm_async",
        "litellm_async_streamed",
        "litellm_embeddings",
    },
}

# Calls of packages that have no place for the keyword; the scope is there for them.
NO_KEYWORD = {"langchain_embeddings", "agents_responses", "agents_streamed", "agents_chat"}

INSTALLED = os.environ.get("COEXISTENCE", "").split()
INSTRUMENTATIONS = [name for name in INSTALLED if name in INSTRUMENTORS]
FRAMEWORKS = [name for name in INSTALLED if name not in INSTRUMENTORS]

Phase = dict[str, dict[str, Any]]


def run(provider: Any, folder: Path, package: str, steps: str, *more: str) -> list[Phase]:
    """Run the application, and return what came of each of its phases."""
    provider.reset()
    results = folder / "results.json"
    done = subprocess.run(
        [sys.executable, HERE / "application.py", results, package, steps, *more],
        env={
            **os.environ,
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "test",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched from the network
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "openai-metering was swallowed" not in done.stderr, done.stderr
    phases: list[Phase] = json.loads(results.read_text("utf-8"))
    return phases


@pytest.fixture(scope="session")
def bare(provider_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, Any]]]:
    """What callers see of a package where nothing is instrumented, in each of three phases."""

    @functools.cache
    def made(package: str) -> list[dict[str, Any]]:
        return results(run(provider_process, tmp_path_factory.mktemp(package), package, "call,call,call"))

    return made


def results(phases: list[Phase]) -> list[dict[str, Any]]:
    """What the callers saw."""
    return [{name: made["result"] for name, made in phase.items()} for phase in phases]


def metered(steps: str) -> list[bool]:
    """Whether ours is there, for each phase."""
    done = steps.split(",")
    return [
        done[:place].count("ours") > done[:place].count("-ours") for place, step in enumerate(done) if step == "call"
    ]


def check_records(phase: Phase, served: Any) -> None:
    """Each request that was served has one record, with the tokens that were served and who it was for."""
    assert [len(made["records"]) for made in phase.values()] == [1] * len(phase), phase
    by_request = {answer.request_id: answer for answer in served}
    for name, made in phase.items():
        (record,) = made["records"]
        usage = by_request[record["openai_metering.request.id"]].usage
        assert record["openai_metering.usage.status"] == "reported"
        assert record["gen_ai.usage.input_tokens"] == usage.get("prompt_tokens", usage.get("input_tokens"))
        assert record.get("gen_ai.usage.output_tokens", 0) == usage.get(
            "completion_tokens", usage.get("output_tokens", 0)
        )
        expected = (SCOPE if name in NO_KEYWORD else KEYWORD)["organization_id"]
        assert record["attribution.organization.id"] == expected
        assert record["attribution.subscriber.id"] == SCOPE["subscriber_identity"]


def scopes(made: dict[str, Any]) -> Counter[str]:
    """How many spans of ours and of theirs there are."""
    return Counter("ours" if span["scope"] == OURS else "theirs" for span in made["spans"])


def spans_of(package: str, name: str) -> dict[str, int]:
    """The spans of a call in the mode `auto`."""
    if name in SPAN_AFTERWARDS.get(package, ()):
        return {"ours": 1, "theirs": 1}
    return {"ours": 1} if name in NO_SPAN.get(package, ()) else {"theirs": 1}


def check_spans(package: str, phase: Phase) -> None:
    """One span for each call, theirs where they make it in time, with who on it, and the record refers to it."""
    for name, made in phase.items():
        assert scopes(made) == spans_of(package, name), name
        if spans_of(package, name) != {"theirs": 1}:
            continue
        (span,), (record,) = made["spans"], made["records"]
        assert span["attribution.organization.id"] == "Keyword"
        assert span["attribution.subscriber.id"] == span["user.id"] == "joe@acme.com"
        assert span["attribution.credential.id"] == "key1-hubspot"
        assert span["attribution.tag.feature"] == "search"
        assert span["attribution.status"] == "complete"
        assert record["span_id"] == span["span_id"]


@pytest.mark.parametrize("steps", ORDERS)
@pytest.mark.parametrize("package", INSTRUMENTATIONS)
def test_in_every_order(provider: Any, bare: Any, tmp_path: Path, package: str, steps: str) -> None:
    """Whichever comes first and whichever leaves first: callers see the same, each request has its one record."""
    expected = bare(package)
    phases = run(provider, tmp_path, package, steps)
    assert results(phases) == expected[: len(phases)]
    each = len(phases[0])
    assert len(provider.served) == each * len(phases)
    for number, (phase, ours) in enumerate(zip(phases, metered(steps), strict=True)):
        if ours:
            check_records(phase, provider.served[number * each : (number + 1) * each])
        else:
            assert all(not made["records"] and not scopes(made)["ours"] for made in phase.values())
    check_spans(package, phases[0])


@pytest.mark.parametrize("package", [name for name in INSTRUMENTATIONS if name in SPAN_AFTERWARDS])
def test_who_is_on_spans_that_are_made_afterwards(provider: Any, tmp_path: Path, package: str) -> None:
    """A span that comes too late for our seam has from the processor what the scope says."""
    (phase,) = run(provider, tmp_path, package, "theirs,ours,call")
    for name in SPAN_AFTERWARDS[package]:
        (span,) = [span for span in phase[name]["spans"] if span["scope"] != OURS]
        assert span["attribution.organization.id"] == "Scope"
        assert span["user.id"] == "joe@acme.com"
        assert span["attribution.status"] == "partial"


@pytest.mark.parametrize("mode", ["always", "never"])
@pytest.mark.parametrize("package", INSTRUMENTATIONS)
def test_modes(provider: Any, tmp_path: Path, package: str, mode: str) -> None:
    """`always` makes our span beside theirs, `never` makes none; records and what is written on theirs stay."""
    (phase,) = run(provider, tmp_path, package, "theirs,ours,call", mode)
    check_records(phase, provider.served)
    for name, made in phase.items():
        assert scopes(made)["ours"] == (mode == "always")
        theirs = [span for span in made["spans"] if span["scope"] != OURS]
        assert len(theirs) == (name not in NO_SPAN.get(package, ()))
        afterwards = name in SPAN_AFTERWARDS.get(package, ())
        for span in theirs:
            assert span["attribution.organization.id"] == ("Scope" if afterwards else "Keyword")
        if mode == "always":
            (ours,) = [span for span in made["spans"] if span["scope"] == OURS]
            assert made["records"][0]["span_id"] == ours["span_id"]
            assert ours["parent_id"] == (theirs[0]["span_id"] if theirs and not afterwards else None)


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_packages_that_call_through_the_sdk(provider: Any, bare: Any, tmp_path: Path, package: str) -> None:
    """Callers see the same, each request has its one record and its one span, and the keyword or the scope is on both."""
    expected = bare(package)
    phases = run(provider, tmp_path, package, "ours,call")
    assert results(phases) == expected[:1]
    assert len(provider.served) == len(CALLS[package])
    check_records(phases[0], provider.served)
    for made in phases[0].values():
        assert scopes(made) == {"ours": 1}


@pytest.mark.parametrize("package", FRAMEWORKS)
@pytest.mark.parametrize("instrumentation", [name for name in INSTRUMENTATIONS if name not in SPAN_AFTERWARDS])
def test_packages_that_call_through_the_sdk_beside_an_instrumentation(
    provider: Any, tmp_path: Path, package: str, instrumentation: str
) -> None:
    """With another instrumentation in between there is one record, and one span, theirs if it has one, with who on it."""
    (phase,) = run(provider, tmp_path, instrumentation, "ours,theirs,call", "auto", package)
    check_records(phase, provider.served)
    for name, made in phase.items():
        assert scopes(made) == {"ours" if name in NO_SPAN.get(instrumentation, ()) else "theirs": 1}
        (span,) = made["spans"]
        assert span["attribution.organization.id"] == ("Scope" if name in NO_KEYWORD else "Keyword")
