"""Who a call is for: what is understood, how scopes travel, which source wins."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import enum
import itertools
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openai_metering import CLEAR, Attribution, attribution, current_attribution, errors
from openai_metering.resolution import (
    EMPTY,
    MAX_TAG_KEY_LENGTH,
    MAX_TAGS,
    MAX_VALUE_LENGTH,
    SOURCES,
    resolve,
    set_limits,
)
from openai_metering.spellings import SPELLINGS

attribution_module = sys.modules["openai_metering.resolution"]
KEY = "sk-proj-abcDEF0123456789abcDEF0123456789"
NOBODY = Attribution()


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "openai_metering"]


# -- What an application passes --------------------------------------------------------------------------------------


def test_the_original_example_is_understood_verbatim():
    """The three names that every user knows give the three levels."""
    assert Attribution.from_mapping(
        {
            "organization_id": "AcmeSoft",
            "subscriber_identity": "joe@acme.com",
            "subscriber_credential": "key1-hubspot",
        }
    ) == Attribution("AcmeSoft", "joe@acme.com", "key1-hubspot")


@pytest.mark.parametrize(
    "name", ["organization_id", "organizationId", "organization_name", "organizationName"], ids=str
)
def test_every_spelling_of_the_organization_is_understood(name):
    """A caller who has not moved to the newest name loses nothing."""
    assert Attribution.from_mapping({name: "AcmeSoft"}) == Attribution(organization_id="AcmeSoft")


@pytest.mark.parametrize(
    "values",
    [
        *(
            {name: "joe"}
            for name in (
                "subscriber_identity",
                "subscriberIdentity",
                "subscriber.email",
                "subscriber_email",
                "subscriberEmail",
                "subscriber.id",
                "subscriber_id",
                "subscriberId",
            )
        ),
        {"subscriber": {"email": "joe"}},
        {"subscriber": {"id": "joe"}},
    ],
    ids=str,
)
def test_every_spelling_of_the_subscriber_is_understood(values):
    """Flat, dotted, nested or camelCase: it is the same person."""
    assert Attribution.from_mapping(values) == Attribution(subscriber_identity="joe")


@pytest.mark.parametrize(
    "values",
    [
        *(
            {name: "key1"}
            for name in (
                "subscriber_credential",
                "subscriberCredential",
                "subscriber.credential.name",
                "subscriber_credential_name",
                "subscriberCredentialName",
                "credential_alias",
                "credentialAlias",
                "ai_provider_key_name",
                "subscriber.credential.value",
            )
        ),
        {"subscriber": {"credential": {"name": "key1"}}},
        {"subscriber": {"credential": {"value": "key1"}}},
        {"subscriber": {"credential": "key1"}},
    ],
    ids=str,
)
def test_every_spelling_of_the_credential_is_understood(values):
    """Flat, dotted, nested or camelCase: it is the same key's alias."""
    assert Attribution.from_mapping(values) == Attribution(subscriber_credential="key1")


@pytest.mark.parametrize("turn", [1, -1])
def test_the_better_spelling_wins_in_any_order(turn):
    """An e-mail address is preferred to an id and a name to a value, whichever is written first."""
    pairs = [
        ("subscriber", {"id": "u-1", "email": "joe@acme.com", "credential": {"value": "cred-1", "name": "key1"}}),
        ("organization_name", "Acme"),
        ("organization_id", "AcmeSoft"),
    ][::turn]
    assert Attribution.from_mapping(dict(pairs)) == Attribution("AcmeSoft", "joe@acme.com", "key1")


def test_flat_and_nested_names_are_merged_field_by_field():
    """A nested person does not make a flat credential disappear."""
    values = {"subscriber": {"email": "joe@acme.com"}, "subscriber_credential": "key1"}
    assert Attribution.from_mapping(values) == Attribution(None, "joe@acme.com", "key1")


def test_unknown_names_become_tags_sorted_by_name():
    """Anything else an application says is kept as a tag, with the type it has."""
    values = {"product": "search", "attempt": 2, "paid": True, "score": 0.5, "subscriber": {"team": "blue"}}
    assert Attribution.from_mapping(values) == Attribution(
        tags=(("attempt", 2), ("paid", True), ("product", "search"), ("score", 0.5), ("subscriber.team", "blue"))
    )


def test_an_attribution_is_taken_as_it_is():
    """What was read once is not read again."""
    given = Attribution("AcmeSoft", tags=(("a", 1),))
    assert Attribution.from_mapping(given) is given


@pytest.mark.parametrize(
    "nothing", [None, {}, {"organization_id": None}, {"organization_id": "  ", "tag": ""}], ids=str
)
def test_none_and_blank_mean_unset(nothing, caplog):
    """Nothing said is nothing known, and no reason for a warning."""
    assert Attribution.from_mapping(nothing) == NOBODY
    assert warnings_of(caplog) == []


def test_space_around_a_value_is_taken_off():
    """`" AcmeSoft "` and `"AcmeSoft"` are one customer."""
    assert Attribution.from_mapping({"organization_id": " AcmeSoft\n"}).organization_id == "AcmeSoft"


@pytest.mark.parametrize(
    "bad",
    [
        "AcmeSoft",
        7,
        ["organization_id"],
        {"organization_id": 7},
        {"subscriber_identity": ["joe"]},
        {"subscriber": {"credential": {"name": b"key1"}}},
        {"tag": ...},
        {7: "seven"},
    ],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_dropped_with_one_warning(bad, caplog):
    """A mistake in the metadata never breaks a call, and is said once, not at every call."""
    for _ in range(3):
        assert Attribution.from_mapping(bad) == NOBODY
    assert len(warnings_of(caplog)) == 1


def test_each_kind_of_mistake_is_said_once(caplog):
    """The second kind of mistake is not hidden by the first."""
    for _ in range(3):
        Attribution.from_mapping({"organization_id": 1, "subscriber_id": 2, "credential_alias": 3, "tag": [4], 5: "x"})
        Attribution.from_mapping("text")
    assert len(warnings_of(caplog)) == 6


def test_a_wrong_type_costs_only_its_own_field():
    """What is right beside a mistake is kept, and a worse spelling stands in for the better one."""
    values = {"organization_id": 7, "organization_name": "Acme", "subscriber_identity": "joe"}
    assert Attribution.from_mapping(values) == Attribution("Acme", "joe")


def test_warnings_do_not_quote_values(caplog):
    """Our own log never prints an identity."""
    Attribution.from_mapping({"organization_id": ["secret-name"], "tag": {"secret-name": 1}})
    assert warnings_of(caplog)
    assert "secret-name" not in caplog.text


def test_an_over_long_value_is_cut_with_one_warning(caplog):
    """No value grows the telemetry without bound."""
    for _ in range(2):
        found = Attribution.from_mapping({"organization_id": "a" * 1000, "tag": "b" * 257, "fits": "c" * 256})
    assert found.organization_id == "a" * MAX_VALUE_LENGTH
    assert dict(found.tags) == {"tag": "b" * MAX_VALUE_LENGTH, "fits": "c" * 256}
    assert len(warnings_of(caplog)) == 1


def test_tags_are_limited_in_number_and_in_the_length_of_their_names(caplog):
    """A caller who passes a whole document keeps the call, not the document."""
    found = Attribution.from_mapping({f"tag{number:03}": number for number in range(100)})
    assert found.tags == tuple((f"tag{number:03}", number) for number in range(MAX_TAGS))
    assert len(warnings_of(caplog)) == 1
    assert Attribution.from_mapping({"k" * 300: 1}).tags == (("k" * MAX_TAG_KEY_LENGTH, 1),)


def test_a_key_is_masked_in_every_field():
    """A value shaped like an API key is kept nowhere, not even as a tag or its name."""
    found = Attribution.from_mapping(
        {"organization_id": KEY, "subscriber_id": KEY, "subscriber_credential": KEY, "tag": f"uses {KEY}", KEY: 1}
    )
    assert KEY[8:] not in repr(found)
    assert found.subscriber_credential == "[masked]"
    assert dict(found.tags)["tag"] == "uses [masked]"


def test_a_key_in_an_attribution_object_is_masked_too(caplog):
    """The public value type is no way around the masking."""
    found = Attribution.from_mapping(Attribution(subscriber_credential=KEY, tags=(("tag", KEY),)))
    assert KEY[8:] not in repr(found)


def test_an_attribution_object_with_a_wrong_type_costs_only_that_field():
    """`Attribution(organization_id="AcmeSoft", tags={...})` must not lose the call: it stays usable as a cache key."""
    given = Attribution("AcmeSoft", tags={"team": "blue"})  # type: ignore[arg-type]
    assert resolve(Attribution.from_mapping(given), EMPTY, EMPTY).attribution.organization_id == "AcmeSoft"


@pytest.mark.parametrize("padding", range(24))
def test_no_part_of_a_key_survives_where_a_long_value_is_cut(padding):
    """Cutting never leaves the first characters of a key behind."""
    key = "sk-" + "a1B2c3D4e5F6" * 4
    text = "x" * padding + " " + " ".join([key] * 30)
    assert "sk-" not in (Attribution.from_mapping({"organization_id": text}).organization_id or "")


class Raising(Mapping[str, object]):
    """A mapping of the application that cannot be read, such as a closed session."""

    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)

    def __iter__(self):
        raise RuntimeError

    def __len__(self) -> int:
        return 1


def test_a_mapping_that_raises_is_nobody():
    """Reading metadata never raises, whatever the application passes."""
    assert Attribution.from_mapping(Raising()) == NOBODY


def test_a_blank_tag_name_is_no_tag():
    """A name that is empty after trimming would become an attribute without a name."""
    assert Attribution.from_mapping({"  ": 1}).tags == ()


def test_enumerations_are_their_values():
    """`str` and `int` enumerations, common for plans and tiers, are read as what they stand for."""

    class Plan(str, enum.Enum):
        PRO = "pro"

    assert Attribution.from_mapping({"organization_id": Plan.PRO, "plan": Plan.PRO}) == Attribution(
        "pro", tags=(("plan", "pro"),)
    )


# -- Metadata that comes again ---------------------------------------------------------------------------------------


def test_a_dictionary_that_comes_again_is_recognised_by_what_it_says():
    """Remembered is what it said, not the object: a dictionary that an application changes is read anew."""
    values = {"organization_id": "AcmeSoft", "team": "blue"}
    first = Attribution.from_mapping(values)
    assert Attribution.from_mapping(dict(values)) is first
    values["organization_id"] = "Other"
    assert Attribution.from_mapping(values).organization_id == "Other"
    assert Attribution.from_mapping({"team": "blue", "organization_id": "AcmeSoft"}) == first


@pytest.mark.parametrize(
    "values",
    [
        {"subscriber_credential": KEY},
        {"organization_id": "AcmeSoft", "note": f"uses {KEY}"},
        {KEY: "x"},
        {"organization_id": f"{KEY} {'x' * 500}"},
    ],
    ids=lambda values: next(iter(values))[:12],
)
def test_metadata_with_a_secret_in_it_is_not_remembered(values):
    """The memory that makes reading cheap holds no key."""
    Attribution.from_mapping(values)
    assert not [pairs for pairs in attribution_module._read_before if KEY in repr(pairs)]


def test_what_was_complained_of_is_complained_of_again_after_a_new_start(caplog):
    """A new `instrument()` speaks up again, though the same metadata was read before."""
    for _ in range(2):
        errors.reset()
        for _ in range(2):
            Attribution.from_mapping({"organisation_id": "AcmeSoft"})
            Attribution.from_mapping({"organization_id": "a" * 300})
    assert len(warnings_of(caplog)) == 4


def test_the_memory_is_bounded():
    """A service with a million customers does not grow by their metadata."""
    for number in range(attribution_module._REMEMBERED + 100):
        Attribution.from_mapping({"organization_id": f"customer {number}"})
    assert len(attribution_module._read_before) <= attribution_module._REMEMBERED


def test_limits_are_settings():
    """What is kept of values and tags is what `instrument()` was told, for metadata read before, too."""
    values = {"organization_id": "a" * 100, "b": "1", "c": "2"}
    assert Attribution.from_mapping(values).cut == ()
    set_limits(50, 1)
    try:
        found = Attribution.from_mapping(values)
        assert (found.organization_id, found.tags, found.cut) == ("a" * 50, (("b", "1"),), ("organization_id", "tags"))
        assert Attribution(tags={"b": "1"}).merge(Attribution(tags={"d": "1"})).tags == (("d", "1"),)
    finally:
        set_limits(MAX_VALUE_LENGTH, MAX_TAGS)
    assert Attribution.from_mapping(values).cut == ()


# -- Spellings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", SPELLINGS["organization_id"] + SPELLINGS["subscriber_identity"] + SPELLINGS["subscriber_credential"]
)
def test_every_name_of_the_table_is_read(spelling, caplog):
    """Python's and JavaScript's way, dotted, and the headers of the reference product's gateway."""
    found = Attribution.from_mapping({spelling: "x"})
    assert (found.organization_id, found.subscriber_identity, found.subscriber_credential).count("x") == 1
    assert found.tags == ()
    assert warnings_of(caplog) == []


def test_the_gateways_headers_are_understood_in_any_letter_case():
    """A mapping of HTTP headers can be handed on as it came."""
    headers = {
        "X-Revenium-Organization-Name": "Acme",
        "x-revenium-subscriber-email": "joe",
        "X-Revenium-Credential-Alias": "k",
    }
    assert Attribution.from_mapping(headers) == Attribution("Acme", "joe", "k")


def test_generic_fields_are_tags_under_one_name(caplog):
    """`taskType` and `task_type` are one tag, whichever an application writes, and no mistake."""
    values = {"taskType": "summary", "product_name": "search", "subscriptionId": "s-1", "traceId": "t", "agent": "a"}
    assert dict(Attribution.from_mapping(values).tags) == {
        "task_type": "summary",
        "product_name": "search",
        "subscription_id": "s-1",
        "trace_id": "t",
        "agent": "a",
    }
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("organisation_id", "organization_id"),
        ("organisationId", "organization_id"),
        ("organization-id", "organization_id"),
        ("Organization_ID", "organization_id"),
        ("organiztion_id", "organization_id"),
        ("org_id", "organization_id"),
        ("organization", "organization_id"),
        ("subscriber_identiy", "subscriber_identity"),
        ("subscriber_mail", "subscriber_identity"),
        ("subscriber", "subscriber_identity"),
        ("subscriber_credentials", "subscriber_credential"),
        ("credential", "subscriber_credential"),
    ],
)
def test_a_near_miss_is_a_tag_and_one_warning_names_the_right_one(key, right, caplog):
    """A misspelt level would otherwise be lost without a word."""
    for _ in range(3):
        assert dict(Attribution.from_mapping({key: "x"}).tags) == {key: "x"}
    (warning,) = warnings_of(caplog)
    assert key in warning
    assert right in warning


@pytest.mark.parametrize(
    "key",
    [
        "subscription_id",
        "subscription_tier",
        "organization_type",
        "origin",
        "customer_id",
        "user",
        "region",
        "session_id",
        "credit",
        "subscribers_seen",
        "api_version",
        "x",
        "",
    ],
)
def test_an_ordinary_tag_is_no_near_miss(key, caplog):
    """Nobody is told that `subscription_id` is misspelt."""
    Attribution.from_mapping({key: "x"})
    assert warnings_of(caplog) == []


# -- Clearing --------------------------------------------------------------------------------------------------------


def test_a_field_can_be_cleared_on_purpose():
    """Inside, nobody's name is left of the outer scopes, and neither client nor default bring it back."""
    with attribution(organization_id="Acme", subscriber_identity="joe", team="blue"):
        with attribution(subscriber_identity=CLEAR, team=CLEAR):
            inside = current_attribution()
            with attribution(subscriber_identity="ann"):
                assert current_attribution().subscriber_identity == "ann"
        assert current_attribution().subscriber_identity == "joe"
    assert (inside.organization_id, inside.subscriber_identity, inside.tags) == ("Acme", None, ())
    somebody = Attribution(None, "default", "key", (("team", "red"), ("zone", "eu")))
    found = resolve(EMPTY, inside, somebody, client=somebody)
    assert found.attribution.subscriber_identity is None
    assert found.sources == ("scope", None, "client")
    assert found.attribution.tags == (("zone", "eu"),)


def test_the_keyword_can_clear_too_and_what_is_given_beside_wins():
    """`CLEAR` has the rank of where it stands."""
    cleared = Attribution.from_mapping({"organization_id": CLEAR, "tag": CLEAR})
    found = resolve(cleared, Attribution("Acme", "joe", tags=(("tag", 1),)), Attribution("default"))
    assert (found.attribution.organization_id, found.sources) == (None, (None, "scope", None))
    assert found.attribution.tags == ()
    assert resolve(Attribution("Acme"), cleared, EMPTY).attribution.organization_id == "Acme"
    assert Attribution.from_mapping({"organization_id": CLEAR, "organizationId": "Acme"}) == Attribution("Acme")


def test_clearing_nothing_is_nothing():
    """An attribution that clears a field is another one than an empty one."""
    assert Attribution.from_mapping({"organization_id": CLEAR}) != NOBODY
    assert Attribution.from_mapping({"organization_id": None}) == NOBODY


# -- The value -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [Attribution("Acme", "joe", "key", (("a", 1), ("b", True))), NOBODY, Attribution.from_mapping({"team": CLEAR})],
    ids=str,
)
def test_an_attribution_travels_and_stays_equal(who):
    """To another process by pickle, whose hashes of text are others, and into sets and dictionaries."""
    code = "import pickle, sys; who = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps((who, hash(who) == hash(type(who).from_mapping(who)), {who: 1}[pickle.loads(pickle.dumps(who))])))"
    ran = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(who), capture_output=True, check=True, timeout=60
    )
    assert pickle.loads(ran.stdout) == (who, True, 1)
    assert hash(pickle.loads(ran.stdout)[0]) == hash(who)
    assert copy.deepcopy(who) == who
    with pytest.raises(dataclasses.FrozenInstanceError):
        who.organization_id = "other"


def test_what_is_cut_says_so():
    """The fields that lost a part are named, whatever is merged with them later."""
    who = Attribution.from_mapping({"organization_id": "a" * 300, "note": "b" * 300, **{f"t{n}": 1 for n in range(40)}})
    assert who.cut == ("note", "organization_id", "tags")
    assert Attribution("Acme").cut == ()
    assert Attribution(subscriber_identity="joe").merge(who).cut == who.cut
    full = Attribution(tags={f"a{n}": 1 for n in range(MAX_TAGS)})
    assert full.merge(Attribution(tags={"b": 1})).cut == ("tags",)


# -- Merging ---------------------------------------------------------------------------------------------------------

FULL = Attribution("org", "joe", "key", (("a", 1), ("b", 1)))


@pytest.mark.parametrize(
    ("inner", "merged"),
    [
        (EMPTY, FULL),
        (Attribution(), FULL),
        (Attribution(organization_id="new"), Attribution("new", "joe", "key", FULL.tags)),
        (Attribution(subscriber_identity="new"), Attribution("org", "new", "key", FULL.tags)),
        (Attribution(subscriber_credential="new"), Attribution("org", "joe", "new", FULL.tags)),
        (Attribution(tags=(("b", 2), ("c", 2))), Attribution("org", "joe", "key", (("a", 1), ("b", 2), ("c", 2)))),
    ],
    ids=str,
)
def test_merging_goes_field_by_field(inner, merged):
    """What is said further in wins, what is left out there stays."""
    assert FULL.merge(inner) == merged
    assert EMPTY.merge(FULL) == FULL


def test_the_inner_tags_survive_the_limit():
    """Where both together are too many, the call's own tags are kept before those of the scope around it."""
    outer = Attribution.from_mapping({f"a{number:02}": 1 for number in range(MAX_TAGS)})
    merged = outer.merge(Attribution.from_mapping({"zone": "eu"}))
    assert len(merged.tags) <= MAX_TAGS
    assert dict(merged.tags).get("zone") == "eu"


# -- Scopes ----------------------------------------------------------------------------------------------------------


def test_scopes_nest_and_merge():
    """An inner scope adds to the outer one, and leaving it gives the outer one back."""
    assert current_attribution() == NOBODY
    with attribution(organization_id="AcmeSoft", plan="pro"):
        with attribution({"subscriber": {"email": "joe@acme.com"}}, subscriber_credential="key1", plan="free"):
            assert current_attribution() == Attribution("AcmeSoft", "joe@acme.com", "key1", (("plan", "free"),))
        assert current_attribution() == Attribution("AcmeSoft", tags=(("plan", "pro"),))
    assert current_attribution() == NOBODY


def test_a_scope_is_left_by_an_exception_too():
    """What fails inside a scope does not lend it to what comes after, and the exception is the application's own."""
    raised = ValueError("the application's")
    with pytest.raises(ValueError, match="application") as caught, attribution(organization_id="AcmeSoft"):
        raise raised
    assert caught.value is raised
    assert current_attribution() == NOBODY


def test_a_decorated_function_runs_in_the_scope():
    """A decorator says who all calls of a function are for, and changes nothing else about it."""

    @attribution(organization_id="AcmeSoft")
    def work(number: int, *, twice: bool) -> tuple[int, Attribution]:
        """The function's own docstring."""
        return number * (2 if twice else 1), current_attribution()

    assert work(3, twice=True) == (6, Attribution("AcmeSoft"))
    assert (work.__name__, work.__doc__) == ("work", "The function's own docstring.")
    assert current_attribution() == NOBODY


def test_a_decorated_coroutine_function_runs_in_the_scope():
    """The scope of an async function holds over its awaits and stays a coroutine function."""

    @attribution(organization_id="AcmeSoft")
    async def work() -> Attribution:
        await asyncio.sleep(0)
        return current_attribution()

    async def main() -> tuple[Attribution, Attribution]:
        return await work(), current_attribution()

    assert asyncio.iscoroutinefunction(work)
    assert asyncio.run(main()) == (Attribution("AcmeSoft"), NOBODY)


def test_a_decorated_generator_function_runs_in_the_scope():
    """Streaming endpoints are generators: their body is in the scope, and what consumes them is not."""

    @attribution(organization_id="AcmeSoft")
    def stream():
        yield current_attribution()
        yield current_attribution()

    seen = [(inside, current_attribution()) for inside in stream()]
    assert [inside for inside, _ in seen] == [Attribution("AcmeSoft")] * 2
    assert current_attribution() == NOBODY


def test_a_decorated_async_generator_function_runs_in_the_scope():
    """The same for asynchronous streaming endpoints."""

    @attribution(organization_id="AcmeSoft")
    async def stream():
        yield current_attribution()
        await asyncio.sleep(0)
        yield current_attribution()

    async def main() -> list[Attribution]:
        return [inside async for inside in stream()]

    assert asyncio.run(main()) == [Attribution("AcmeSoft")] * 2


def test_a_recursive_decorated_function_unwinds():
    """Each call of a decorated function has a scope of its own."""

    @attribution(organization_id="AcmeSoft")
    def down(depth: int) -> None:
        assert current_attribution() == Attribution("AcmeSoft")
        if depth:
            down(depth - 1)
            assert current_attribution() == Attribution("AcmeSoft")

    down(5)
    assert current_attribution() == NOBODY


def test_each_task_has_its_own_scope():
    """Concurrent requests in one event loop never see each other's customer."""

    async def request(name: str) -> list[Attribution]:
        with attribution(organization_id=name):
            seen = []
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(current_attribution())
            return seen

    async def main() -> list[list[Attribution]]:
        with attribution(subscriber_identity="outer"):
            return await asyncio.gather(*(request(f"org{number}") for number in range(20)))

    assert asyncio.run(main()) == [[Attribution(f"org{number}", "outer")] * 5 for number in range(20)]


def test_each_thread_has_its_own_scope():
    """A worker thread starts with nobody, and what it enters is seen there only."""
    both_inside = threading.Barrier(2)

    def work(name: str) -> tuple[Attribution, Attribution]:
        before = current_attribution()
        with attribution(organization_id=name):
            both_inside.wait(10)
            return before, current_attribution()

    with attribution(organization_id="main"), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ["a", "b"])) == [(NOBODY, Attribution("a")), (NOBODY, Attribution("b"))]
        assert current_attribution() == Attribution("main")


def test_a_copied_context_carries_the_scope():
    """`contextvars.copy_context()`, which frameworks hand to their workers, takes the scope along."""
    with attribution(organization_id="AcmeSoft"):
        copied = contextvars.copy_context()
    assert copied.run(current_attribution) == Attribution("AcmeSoft")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(copied.run, current_attribution).result() == Attribution("AcmeSoft")
    assert current_attribution() == NOBODY


def half_way():
    with attribution(organization_id="generator"):
        yield current_attribution()
        yield current_attribution()


def test_a_generator_finalised_in_another_context_disturbs_nobody(caplog):
    """A stream left half-way and closed elsewhere raises nothing, logs nothing and takes nobody's scope away."""
    generator = half_way()
    elsewhere = contextvars.copy_context()
    assert elsewhere.run(next, generator) == Attribution("generator")
    assert current_attribution() == NOBODY
    with attribution(organization_id="here"):
        generator.close()
        assert current_attribution() == Attribution("here")
    assert current_attribution() == NOBODY
    assert warnings_of(caplog) == []


def test_a_generator_left_half_way_gives_its_scope_back():
    """A stream that is dropped in the context that it ran in leaves no customer behind."""
    with attribution(organization_id="here"):
        generator = half_way()
        assert next(generator) == Attribution("generator")
        generator.close()
        assert current_attribution() == Attribution("here")
    assert current_attribution() == NOBODY


def test_scopes_left_in_the_wrong_order_end_where_they_began():
    """Leaving the outer scope first keeps the inner one in force until it is left as well."""
    outer, inner = attribution(organization_id="outer"), attribution(subscriber_identity="inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert current_attribution() == Attribution("outer", "inner")
    inner.__exit__(None, None, None)
    assert current_attribution() == NOBODY


def test_a_scope_that_was_never_entered_can_be_left():
    """A stray exit is without effect."""
    with attribution(organization_id="AcmeSoft"):
        attribution(organization_id="AcmeSoft").__exit__(None, None, None)
        assert current_attribution() == Attribution("AcmeSoft")


def test_one_scope_object_can_be_entered_again():
    """An instance kept in a module can be used inside itself: each exit undoes one entry."""
    scope = attribution(organization_id="AcmeSoft")
    with scope:
        with attribution(organization_id="other"), scope:
            assert current_attribution() == Attribution("AcmeSoft")
        assert current_attribution() == Attribution("AcmeSoft")
    assert current_attribution() == NOBODY


def test_one_scope_object_can_be_used_in_two_threads():
    """Leaving a shared instance in one thread leaves it in no other."""
    scope = attribution(organization_id="AcmeSoft")
    entered, left = threading.Event(), threading.Event()
    seen: list[Attribution] = []

    def other() -> None:
        with scope:
            entered.set()
            left.wait(10)
            seen.append(current_attribution())
        seen.append(current_attribution())

    thread = threading.Thread(target=other)
    with scope:
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join(10)
    assert seen == [Attribution("AcmeSoft"), NOBODY]
    assert current_attribution() == NOBODY


@pytest.mark.parametrize("bad", ["AcmeSoft", 7, {"organization_id": 7}], ids=str)
def test_a_scope_of_wrong_types_is_an_empty_one(bad):
    """`with attribution(...)` runs its body, whatever it was given."""
    with attribution(organization_id="outer"), attribution(bad):
        assert current_attribution() == Attribution("outer")


# -- Which source wins -----------------------------------------------------------------------------------------------


def sourced(source: str) -> Attribution:
    return Attribution(f"org-{source}", f"joe-{source}", f"key-{source}", (("from", source), (source, 1)))


def test_the_keyword_beats_the_scope_and_the_scope_the_default():
    """The nearest source wins where all three say who."""
    found = resolve(sourced("keyword"), sourced("scope"), sourced("default"))
    assert found.attribution == Attribution(
        "org-keyword",
        "joe-keyword",
        "key-keyword",
        (("default", 1), ("from", "keyword"), ("keyword", 1), ("scope", 1)),
    )
    assert found.sources == ("keyword", "keyword", "keyword")
    assert resolve(EMPTY, sourced("scope"), sourced("default")).sources == ("scope", "scope", "scope")
    assert resolve(EMPTY, EMPTY, sourced("default")).sources == ("default", "default", "default")


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(SOURCES, 2)))
def test_each_source_wins_over_those_below_it_field_by_field(higher, lower):
    """The order of the table, for every pair; what the higher one leaves out comes from the lower one."""
    low, high = sourced(lower), Attribution(f"org-{higher}", tags=(("from", higher),))
    given = dict.fromkeys(("keyword", "scope", "default"), EMPTY) | {lower: low, higher: high}
    found = resolve(given.pop("keyword"), given.pop("scope"), given.pop("default"), **given)
    assert found.attribution == Attribution(
        f"org-{higher}", f"joe-{lower}", f"key-{lower}", (("from", higher), (lower, 1))
    )
    assert found.sources == (higher, lower, lower)
    assert found.status == "complete"


def test_sources_are_merged_field_by_field():
    """Each level comes from the nearest source that knows it, and says from which."""
    found = resolve(
        Attribution(subscriber_credential="key"), Attribution(subscriber_identity="joe"), Attribution("org")
    )
    assert found.attribution == Attribution("org", "joe", "key")
    assert found.sources == ("default", "scope", "keyword")


LEVELS = ("organization_id", "subscriber_identity", "subscriber_credential")


@pytest.mark.parametrize("known", range(8))
def test_the_status_says_how_much_is_known(known):
    """Complete means all three levels, so that unowned spend shows up instead of vanishing."""
    values: dict[str, Any] = {name: "x" for bit, name in enumerate(LEVELS) if known >> bit & 1}
    found = resolve(Attribution(**values), EMPTY, Attribution(tags=(("tag", 1),)))
    assert found.status == {0: "unattributed", 7: "complete"}.get(known, "partial")
    assert found.sources == tuple("keyword" if name in values else None for name in LEVELS)


@pytest.mark.parametrize(("first", "second"), [(True, 1), (1, True), (0, False), (1, 1.0)], ids=str)
def test_a_tag_keeps_its_own_type(first, second):
    """A call tagged `1` is not told as `true` because an earlier call was tagged `True`."""
    resolve(Attribution(tags=(("kept", first),)), EMPTY, EMPTY)
    ((_, value),) = resolve(Attribution(tags=(("kept", second),)), EMPTY, EMPTY).attribution.tags
    assert type(value) is type(second)
