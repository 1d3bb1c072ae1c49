"""Ways to say who besides keyword and scope: a bound client, a resolver, the key in use, and what leaves of them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import time
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import MAIN, Form, Operation, cases

from in_memory import metered
from openai_metering import (
    CLEAR,
    Attribution,
    OpenAIInstrumentor,
    attribution,
    bind,
    errors,
    set_attribution_resolver,
    usage_headers,
)
from openai_metering.keys import fingerprint, pseudonym

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is metering?"}]}
LEVELS = ("organization", "subscriber", "credential")
CASES = cases(MAIN)
each_form = pytest.mark.parametrize(
    ("operation", "form"), CASES, ids=[f"{operation.name}-{form.name}" for operation, form in CASES]
)
each_form_of_chat = pytest.mark.parametrize(
    "form", [form for operation, form in CASES if operation is MAIN[0]], ids=lambda form: form.name
)
SECRET = "a secret of one's own"
KEY = "sk-proj-abcDEF0123456789abcDEF0123456789"
OTHER_KEY = "sk-proj-zyxWVU9876543210zyxWVU9876543210"
KEYS = {
    fingerprint(KEY, SECRET): {"subscriber_credential": "key1", "organization_id": "Finance"},
    fingerprint(OTHER_KEY, SECRET): "key2",
    "sa-reports": "workload-reports",
}


def who(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(f"attribution.{level}.id") for level in LEVELS)


def sources(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(f"attribution.{level}.source") for level in LEVELS)


def run(form: Form, operation: Operation, provider: Any, prepare: Any = None, **options: Any) -> None:
    """Make a call in one form with a client of its own, which may be prepared."""
    options |= {"base_url": provider.base_url, "max_retries": 0}

    async def run_async() -> None:
        async with openai.AsyncOpenAI(**options) as client:
            await form.run(prepare(client) if prepare else client, operation, {})

    if form.asynchronous:
        asyncio.run(run_async())
    else:
        with openai.OpenAI(**options) as client:
            form.run(prepare(client) if prepare else client, operation, {})


@pytest.fixture
def client(provider: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=provider.base_url, max_retries=0, api_key=KEY) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_resolver() -> Iterator[None]:
    errors.reset()
    yield
    set_attribution_resolver(None)
    errors.reset()


# -- A bound client --------------------------------------------------------------------------------------------------


@each_form
def test_a_bound_client_reaches_every_form(provider: Any, telemetry: Any, operation: Operation, form: Form) -> None:
    """Whatever form a call has, it is for whom its client is bound to; the client it was made from is for nobody."""

    def bound(client: Any) -> Any:
        made = bind(client, organization_id="AcmeSoft", subscriber_identity="joe@acme.com", team="blue")
        assert type(made) is type(client)
        return made

    run(form, operation, provider, bound)
    run(form, operation, provider)
    gc.collect()
    found = telemetry.records
    assert [who(record)[:2] for record in found] == [("AcmeSoft", "joe@acme.com"), (None, None)]
    assert found[0]["attribution.tag.team"] == "blue"
    assert sources(found[0]) == ("client", "client", None)


def test_what_a_client_is_bound_to_stays_with_its_copies(client: Any, telemetry: Any) -> None:
    """Options, copies, raw and streaming views of a bound client are bound, and further headers take nothing away."""
    bound = bind(client, organization_id="AcmeSoft")
    for each in (
        bound.with_options(timeout=30),
        bound.copy(default_headers={"x-mine": "1"}),
        bound.with_options(organization="org-other"),
    ):
        each.chat.completions.create(**CHAT)
    bound.with_raw_response.chat.completions.create(**CHAT)
    with bound.chat.completions.with_streaming_response.create(**CHAT) as response:
        response.read()
    assert [who(record)[0] for record in telemetry.records] == ["AcmeSoft"] * 5


def test_binding_again_merges(client: Any, telemetry: Any) -> None:
    """A tenant's client becomes a person's, field by field, and `CLEAR` takes one out again."""
    tenant = bind(client, Attribution("AcmeSoft", tags=(("plan", "pro"),)))
    person = bind(tenant, {"subscriber": {"email": "joe@acme.com"}}, subscriber_credential="key1")
    nobody = bind(person, subscriber_identity=CLEAR)
    for each in (tenant, person, nobody):
        each.chat.completions.create(**CHAT)
    assert [who(record) for record in telemetry.records] == [
        ("AcmeSoft", None, None),
        ("AcmeSoft", "joe@acme.com", "key1"),
        ("AcmeSoft", None, "key1"),
    ]


def test_scope_and_keyword_win_over_the_client(client: Any, telemetry: Any) -> None:
    """What is said nearer to the call is more particular."""
    bound = bind(client, organization_id="client", subscriber_identity="client", subscriber_credential="client")
    with attribution(subscriber_identity="scope", subscriber_credential="scope"):
        bound.chat.completions.create(**CHAT, usage_metadata={"subscriber_credential": "keyword"})
    (record,) = telemetry.records
    assert who(record) == ("client", "scope", "keyword")
    assert sources(record) == ("client", "scope", "keyword")


def test_an_azure_client_can_be_bound(provider: Any, telemetry: Any) -> None:
    """It stays an Azure client, with its path and its header."""
    azure = openai.AzureOpenAI(
        azure_endpoint=provider.azure_endpoint, api_version="2024-10-21", api_key=KEY, max_retries=0
    )
    bound = bind(azure, organization_id="AcmeSoft")
    assert type(bound) is openai.AzureOpenAI
    bound.chat.completions.create(**CHAT)
    assert who(telemetry.record())[0] == "AcmeSoft"
    (request,) = provider.served
    assert request.headers["api-key"] == KEY
    assert "/deployments/gpt-4o/" in request.path


def test_a_bound_client_sends_what_the_bare_one_sends(client: Any, provider: Any) -> None:
    """Bound or not, instrumented or not, the same bytes arrive."""

    def sent(each: Any) -> Any:
        provider.reset()
        each.chat.completions.create(**CHAT)
        each.models.list()
        return [(r.method, r.path, sorted(r.headers), r.body) for r in provider.served]

    expected = sent(client)
    bound = bind(client, organization_id="AcmeSoft")
    assert sent(bound) == expected
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        assert sent(bound) == expected
    finally:
        instrumentor.uninstrument()
    assert sent(bound) == expected


def test_what_is_no_client_cannot_be_bound() -> None:
    """The message says what to do instead."""
    with pytest.raises(TypeError, match="usage_metadata"):
        bind(openai, organization_id="AcmeSoft")


def test_a_bound_client_does_not_show_who_it_is_for(client: Any) -> None:
    """Somebody who prints a client's headers sees nobody's name."""
    bound = bind(client, organization_id="AcmeSoft", subscriber_identity="joe@acme.com")
    assert "joe" not in repr(bound.default_headers) + repr(vars(bound))
    assert copy.copy(bound)._custom_headers == bound._custom_headers


# -- Headers for type checkers ---------------------------------------------------------------------------------------


@each_form_of_chat
def test_usage_headers_are_never_sent(provider: Any, form: Form) -> None:
    """A call with them is as on the bare SDK where nothing is instrumented."""
    run(form, MAIN[0], provider, default_headers=usage_headers(organization_id="AcmeSoft"))
    assert not any("metering" in name for served in provider.served for name in served.headers)


def test_usage_headers_have_the_rank_of_the_keyword(client: Any, telemetry: Any) -> None:
    """The scope of the call's own time lies below them, in a lazy manager too, and the keyword beside them adds."""
    headers = {"x-mine": "1", **usage_headers(organization_id="header", subscriber_identity="header")}
    with attribution(subscriber_identity="scope", subscriber_credential="scope"):
        client.chat.completions.create(**CHAT, extra_headers=headers)
        client.chat.completions.create(**CHAT, extra_headers=headers, usage_metadata={"organization_id": "keyword"})
        lazy = client.chat.completions.with_streaming_response.create(**CHAT, extra_headers=headers)
        client.post("/chat/completions", body=CHAT, cast_to=object, options={"headers": headers})
    with lazy as response:
        response.read()
    found = telemetry.records
    assert [who(record) for record in found] == [
        ("header", "header", "scope"),
        ("keyword", "header", "scope"),
        ("header", "header", "scope"),
        ("header", "header", "scope"),
    ]
    assert sources(found[0]) == ("keyword", "keyword", "scope")


# -- A resolver ------------------------------------------------------------------------------------------------------

user: ContextVar[str | None] = ContextVar("user", default=None)


@each_form_of_chat
def test_a_resolver_is_asked_when_the_call_is_made(provider: Any, telemetry: Any, form: Form) -> None:
    """In every form the user of that moment counts, and the resolver is asked once."""
    asked = []

    def resolver() -> dict[str, object]:
        asked.append(user.get())
        return {"subscriber_identity": user.get()}

    set_attribution_resolver(resolver)
    token = user.set("joe@acme.com")
    try:
        run(form, MAIN[0], provider)
    finally:
        user.reset(token)
    gc.collect()
    assert who(telemetry.record())[1] == "joe@acme.com"
    assert sources(telemetry.record())[1] == "resolver"
    assert asked == ["joe@acme.com"]


def test_a_lazy_call_has_the_user_of_when_it_was_written(client: Any, telemetry: Any) -> None:
    """A manager made for one user and entered for another is the first one's."""
    set_attribution_resolver(lambda: {"subscriber_identity": user.get()})
    token = user.set("joe@acme.com")
    lazy = client.chat.completions.with_streaming_response.create(**CHAT)
    user.reset(token)
    with lazy as response:
        response.read()
    assert who(telemetry.record())[1] == "joe@acme.com"


def test_a_resolver_ranks_between_client_and_default(provider: Any) -> None:
    """What the client is bound to wins over it, and it wins over the process default."""
    set_attribution_resolver(lambda: Attribution("resolver", "resolver"))
    with metered(organization_id="default", subscriber_credential="default") as made:
        bind(openai.OpenAI(base_url=provider.base_url), subscriber_identity="client").chat.completions.create(**CHAT)
    assert who(made.record()) == ("resolver", "client", "default")
    assert sources(made.record()) == ("resolver", "client", "default")


def test_an_error_of_the_resolver_reaches_nobody(client: Any, telemetry: Any, caplog: Any) -> None:
    """The call goes on without its answer; the error is counted each time, and logged once without its text."""

    def resolver() -> None:
        raise LookupError("joe@acme.com has no session")

    set_attribution_resolver(resolver)
    for _ in range(3):
        client.chat.completions.create(**CHAT)
    assert len(telemetry.records) == 3
    assert errors.counts["resolver"] == 3
    assert [record.levelname for record in caplog.records if record.name == "openai_metering"] == ["WARNING"]
    assert "joe@acme.com" not in caplog.text


def test_a_slow_resolver_is_reported_once(client: Any, telemetry: Any, caplog: Any) -> None:
    """It stands on the path of every call."""
    set_attribution_resolver(lambda: time.sleep(0.02))
    for _ in range(3):
        client.chat.completions.create(**CHAT)
    assert [record.getMessage() for record in caplog.records if "resolver took" in record.getMessage()][1:] == []
    assert "resolver took" in caplog.text


def test_a_resolver_that_calls_the_provider_does_not_ask_itself(client: Any, telemetry: Any) -> None:
    """A user that is looked up by a model would otherwise be looked up for ever."""
    set_attribution_resolver(lambda: {"organization_id": client.chat.completions.create(**CHAT).model})
    client.chat.completions.create(**CHAT)
    assert [who(record)[0] is None for record in telemetry.records] == [True, False]


def test_a_coroutine_function_is_no_resolver(client: Any, telemetry: Any, caplog: Any) -> None:
    """It is said once, and no warning about a coroutine that nobody awaits reaches the application's log."""

    async def resolver() -> None:
        await asyncio.sleep(0)

    set_attribution_resolver(resolver)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            client.chat.completions.create(**CHAT)
        gc.collect()
    assert caplog.text.count("coroutine function") == 1
    set_attribution_resolver("joe")  # type: ignore[arg-type]
    assert "without arguments" in caplog.text


# -- The key in use --------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(provider: Any) -> Iterator[Any]:
    """A metered process with a key map."""
    with metered(key_map=json.dumps(KEYS), fingerprint_secret=SECRET, organization_id="default") as made:
        yield made


def test_the_key_says_who(client: Any, keyed: Any) -> None:
    """Credential and organization come from the map, on the span from its start; a scope wins over it, it over the default."""
    client.chat.completions.create(**CHAT)
    with attribution(organization_id="scope"):
        client.with_options(api_key=OTHER_KEY).chat.completions.create(**CHAT)
    client.with_options(api_key="sk-unknown-0123456789").chat.completions.create(**CHAT)
    assert [who(record) for record in keyed.records] == [
        ("Finance", None, "key1"),
        ("scope", None, "key2"),
        ("default", None, None),
    ]
    assert sources(keyed.records[0]) == ("key_map", None, "key_map")
    assert keyed.spans[0].attributes["attribution.credential.id"] == "key1"


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {OTHER_KEY}"}, {"authorization": OTHER_KEY}, {"api-key": OTHER_KEY}], ids=str
)
def test_a_header_of_the_call_is_the_key_in_use(client: Any, keyed: Any, headers: dict[str, str]) -> None:
    """Identity is of the request, not of the client: another `Authorization` is another credential."""
    client.chat.completions.create(**CHAT, extra_headers=headers)
    client.with_options(default_headers=headers).chat.completions.create(**CHAT)
    assert [who(record)[2] for record in keyed.records] == ["key2", "key2"]


def has_providers() -> bool:
    return "_api_key_provider" in openai.OpenAI.__annotations__ or hasattr(openai.OpenAI(), "_api_key_provider")


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"][: 2 * has_providers()])
def test_a_key_that_a_function_supplies_is_known_at_the_send(provider: Any, keyed: Any, kind: str, works: bool) -> None:
    """Who it stands for is on record and on the ended span, for each call that of its own key, also of a refused one."""
    keys = iter([KEY, OTHER_KEY])

    def supply() -> str:
        return next(keys)

    async def supply_async() -> str:
        return next(keys)

    scenario = {} if works else {"x-standin-scenario": "status_429"}
    options = {"base_url": provider.base_url, "max_retries": 0}

    async def call_async() -> None:
        async with openai.AsyncOpenAI(**options, api_key=supply_async) as client:
            for _ in range(2):
                with contextlib.suppress(*refused):
                    await client.chat.completions.create(**CHAT, extra_headers=scenario)

    refused = () if works else (openai.RateLimitError,)
    if kind.startswith("Async"):
        asyncio.run(call_async())
    else:
        with openai.OpenAI(**options, api_key=supply) as client:
            for _ in range(2):
                with contextlib.suppress(*refused):
                    client.chat.completions.create(**CHAT, extra_headers=scenario)
    assert [who(record) for record in keyed.records] == [("Finance", None, "key1"), ("default", None, "key2")]
    assert [span.attributes["attribution.credential.id"] for span in keyed.spans] == ["key1", "key2"]


def test_an_azure_token_is_nobodys_key(provider: Any, keyed: Any) -> None:
    """Tokens change by the hour, and what the SDK keeps in the place of a key is no key."""
    endpoint = {"azure_endpoint": provider.azure_endpoint, "api_version": "2024-10-21", "max_retries": 0}
    for given in (
        {"azure_ad_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"},
        {"azure_ad_token_provider": lambda: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"},
        {"api_key": KEY},
    ):
        openai.AzureOpenAI(**endpoint, **given).chat.completions.create(**CHAT)
    assert [who(record)[2] for record in keyed.records] == [None, None, "key1"]


def test_no_alias_is_made_of_a_placeholder(provider: Any) -> None:
    """Where unmapped keys are named, tokens and the SDK's placeholders are not."""
    with metered(fingerprint_secret=SECRET, unmapped_keys="alias") as made:
        openai.OpenAI(base_url=provider.base_url, api_key=KEY).chat.completions.create(**CHAT)
        openai.AzureOpenAI(
            azure_endpoint=provider.azure_endpoint, api_version="2024-10-21", azure_ad_token="eyJ.a.b"
        ).chat.completions.create(**CHAT)
    assert [who(record)[2] for record in made.records] == [f"key-{fingerprint(KEY, SECRET)}", None]


# -- A hashed subscriber ---------------------------------------------------------------------------------------------


def test_a_hashed_subscriber_leaves_as_a_hash_alone(client: Any) -> None:
    """Span and record say the keyed hash, and `user.id` is absent; sources and status stay as they are."""
    with metered(subscriber_hash_secret=SECRET, metric_attributes="subscriber") as made:
        client.chat.completions.create(
            **CHAT,
            usage_metadata={"organization_id": "A", "subscriber_identity": "joe@acme.com", "credential_alias": "k"},
        )
        client.chat.completions.create(**CHAT)
    hashed = pseudonym("joe@acme.com", SECRET)
    first, second = made.records
    for attributes in (first, dict(made.spans[0].attributes)):
        assert attributes["attribution.subscriber.id"] == attributes["user.hash"] == hashed
        assert "user.id" not in attributes
    assert (first["attribution.status"], sources(first)) == ("complete", ("keyword", "keyword", "keyword"))
    assert who(second) == (None, None, None)
    assert (
        "joe@acme.com"
        not in f"{made.records}{[span.to_json() for span in made.spans]}{made.metric_reader.get_metrics_data()}"
    )


def test_a_workload_identity_is_looked_up_by_its_service_account(provider: Any, keyed: Any) -> None:
    """What the SDK keeps in the place of a key is no key; the account's id names who it is."""
    with openai.OpenAI(base_url=provider.base_url, api_key="workload-identity-auth") as client:
        client.chat.completions.create(**CHAT)
        client.workload_identity = {"service_account_id": "sa-reports", "identity_provider_id": "idp"}  # type: ignore[attr-defined, assignment, typeddict-item]
        client.chat.completions.create(**CHAT)
    assert [who(record)[2] for record in keyed.records] == [None, "workload-reports"]
