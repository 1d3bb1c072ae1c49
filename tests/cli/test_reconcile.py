"""The reconcile command: our records of real traffic beside the meters of the provider that served it."""

from __future__ import annotations

import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from openai_metering import OpenAIInstrumentor
from openai_metering.cli import main
from openai_metering.cli.billed import Key, segments
from openai_metering.cli.reconciling import CLASSES, Metered, agreement, compared, shown
from openai_metering.local.meters import ADMIN_KEY, RATES, api_key_id

sys.path.insert(0, str(Path(__file__).parents[1] / "directory"))
from folders import write

UTC = dt.timezone.utc
KEYS = {"key-search": "sk-search-0123456789", "key-mail": "sk-mail-0123456789"}
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def metered(tmp_path):
    """A metered process with a ledger, of which the tests read the file."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(records="ledger", ledger_dir=str(tmp_path / "ledger"))
    yield tmp_path / "ledger"
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


@pytest.fixture
def directory(tmp_path):
    rows = [f"{alias},,,,{api_key_id(key)},,," for alias, key in KEYS.items()]
    return write(tmp_path / "directory", credentials=rows)


@pytest.fixture
def prices(tmp_path):
    file = tmp_path / "prices.toml"
    rates = (
        f"input_mtok = {RATES['input']}\ncache_read_mtok = {RATES['cached input']}\noutput_mtok = {RATES['output']}\n"
        "cache_write_mtok = 2\ninput_audio_mtok = 2\noutput_audio_mtok = 8\n"
    )
    file.write_text(f'version = "1"\n[[cost]]\nmodel = "*"\n{rates}')
    return file


@pytest.fixture
def client(provider):
    def made(alias="key-search", **settings):
        return openai.OpenAI(base_url=provider.base_url, api_key=KEYS[alias], max_retries=0, **settings)

    return made


@pytest.fixture
def reconcile(provider, monkeypatch, capsys, metered, directory):
    """Run the command over yesterday to tomorrow; the process is not metered any more by then."""
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)

    def run(*args, status=0, since=-1, until=1):
        days = [(dt.datetime.now(UTC) + dt.timedelta(days=days)).date().isoformat() for days in (since, until)]
        words = ["reconcile", str(metered), "--from", days[0], "--to", days[1], "--format", "json", "--all"]
        capsys.readouterr()
        found = main([*words, *map(str, args)])
        captured = capsys.readouterr()
        assert found == status, captured.err + captured.out
        return json.loads(captured.out)

    return run


def chat(client, alias="key-search", **more):
    return client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, usage_metadata={"subscriber_credential": alias}, **more
    )


def traffic(client):
    """Calls of each meter, by two keys, one of them with a project of its own."""
    for alias, project in (("key-search", None), ("key-mail", "proj_mail")):
        one = client(alias, project=project)
        who = {"usage_metadata": {"subscriber_credential": alias}}
        for _ in range(3):
            chat(one, alias)
        list(chat(one, alias, stream=True))
        one.responses.create(model="gpt-4.1", input="Hello", **who)
        one.embeddings.create(model="text-embedding-3-small", input="Hello", **who)
    one.images.generate(model="gpt-image-1", prompt="a cat", n=2, **who)
    one.audio.speech.create(model="tts-1", voice="alloy", input="Hello", **who)
    one.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"), **who)


def whys(found):
    return {name for line in found["lines"] for name in line["why"]}


def test_a_clean_run_agrees(client, reconcile, directory, provider):
    """Of traffic that was metered whole, every unit of every meter, day, model, project and key is the same: 100.00 %."""
    traffic(client)
    found = reconcile("--directory", directory, "--no-cost")
    assert found["agreement_percent"] == "100.00"
    assert whys(found) == set()
    assert {line["meter"] for line in found["lines"]} == {
        "completions",
        "embeddings",
        "images",
        "audio_speeches",
        "audio_transcriptions",
    }
    assert {(line["project"], line["api_key"]) for line in found["lines"]} == {
        ("proj_default", api_key_id(KEYS["key-search"])),
        ("proj_mail", api_key_id(KEYS["key-mail"])),
    }
    billed = sum(line["billed"].get("input_tokens", 0) for line in found["lines"])
    served = [one.billed for one in provider.served if one.kind in ("chat", "responses", "embeddings")]
    assert billed == sum(one.get("prompt_tokens", one.get("input_tokens")) for one in served)


def test_costs_agree_to_the_cent(client, reconcile, directory, prices):
    """Whole days cost what our own prices say, where those are the provider's."""
    for alias in KEYS:
        for _ in range(5):
            chat(client(alias), alias)
    found = reconcile("--directory", directory, "--prices", prices)
    (line,) = found["costs"]
    assert line["agrees"]
    assert Decimal(line["metered"]) == Decimal(line["billed"]) > Decimal("0.02")
    prices.write_text(prices.read_text().replace("output_mtok = 8", "output_mtok = 90"))
    found = reconcile("--directory", directory, "--prices", prices, "--late=-48", status=1)
    assert not found["costs"][0]["agrees"]
    assert found["agreement_percent"] == "100.00"


def test_an_unmetered_process(client, reconcile, directory):
    """Requests of which there is no record are said to be of a process without metering, with how many, under their key."""
    chat(client())
    OpenAIInstrumentor().uninstrument()
    for _ in range(2):
        client("key-mail").chat.completions.create(model="gpt-4o", messages=MESSAGES)
    found = reconcile("--directory", directory, "--no-cost", status=1)
    (line,) = [line for line in found["lines"] if line["why"]]
    assert line["notes"] == ["unmetered process: 2"]
    assert line["api_key"] == api_key_id(KEYS["key-mail"])


def test_the_table(client, reconcile, directory, capsys, metered):
    """For a person: what differs, why in words, and the share that agrees; nothing is cut off."""
    chat(client())
    OpenAIInstrumentor().uninstrument()
    client().chat.completions.create(model="gpt-4.1", messages=MESSAGES)
    today, tomorrow = ((dt.datetime.now(UTC) + dt.timedelta(days=days)).date().isoformat() for days in (0, 1))
    assert main(["reconcile", str(metered), "--from", today, "--to", tomorrow, "--no-cost"]) == 1
    lines = [" ".join(one.split()) for one in capsys.readouterr().out.splitlines()]
    assert f"completions {today} gpt-4.1-2025-01-01 input_tokens 0 1,014 +1,014 unmetered process: 1" in lines
    assert lines[-2].startswith("unmetered process: the provider counts more requests")
    assert lines[-1] == f"Tokens on {today}: 49.77 % agree."


def test_unknown_usage(client, reconcile, directory):
    """A stream that the caller left has a record that does not know its usage, and the provider bills it all the same."""
    chat(client())
    with (
        chat(client(), stream=True, extra_headers={"x-standin-scenario": "cut"}) as stream,
        pytest.raises(openai.APIError),
    ):
        list(stream)
    found = reconcile("--directory", directory, "--no-cost", status=1)
    (line,) = [line for line in found["lines"] if line["why"]]
    assert line["notes"] == ["unknown usage: 1"]
    assert line["metered"]["num_model_requests"] == line["billed"]["num_model_requests"] == 2
    assert Decimal(found["agreement_percent"]) < 60


def test_other_units(client, reconcile, directory):
    """What we count in tokens and the provider in seconds cannot agree; what it has no meter for is counted beside."""
    one = client()
    one.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", b"RIFF"))
    one.videos.create(model="sora-2", prompt="a cat")
    found = reconcile("--no-cost", status=1)
    (line,) = found["lines"]
    assert line["notes"] == ["other units: 1"]
    assert found["calls_without_meter"] == 1


def test_late_data(client, reconcile, provider):
    """What the provider does not show yet is late, which is no fault: the status says so."""
    chat(client())
    counted = provider.served
    chat(client())
    provider.reset()
    provider.recall(counted)
    found = reconcile("--no-cost")
    assert whys(found) == {"late data"}
    assert found["agrees"]


def test_a_provider_that_has_counted_nothing(client, reconcile, provider):
    """Nothing at all on the other side is no agreement: another project's key looks the same as data that is late."""
    chat(client())
    provider.meters.hidden = 3600.0
    found = reconcile("--no-cost", status=2)
    assert found["agreement_percent"] == "0.00"
    assert not found["agrees"]


def test_pages_partial_days_and_the_rate_limit(client, reconcile, provider):
    """Months are read page by page, days that are not whole by the hour and minute, and patience is kept."""
    chat(client())
    provider.meters.busy = 2
    found = reconcile("--no-cost", since=-70, until=1)
    assert found["agreement_percent"] == "100.00"
    assert provider.meters.asked.count("/organization/usage/completions") == 3
    now = dt.datetime.now(UTC).replace(second=0, microsecond=0)
    since, until = now - dt.timedelta(minutes=95), now + dt.timedelta(minutes=2)
    found = reconcile("--no-cost", "--from", f"{since:%Y-%m-%dT%H:%M}", "--to", f"{until:%Y-%m-%dT%H:%M}")
    assert found["agreement_percent"] == "100.00"
    assert len(found["lines"]) == 1


@pytest.mark.parametrize(
    ("since", "until", "widths"),
    [
        ("2026-07-01T00:00", "2026-08-01T00:00", ["1d"]),
        ("2026-07-01T22:58", "2026-07-03T01:01", ["1m", "1h", "1d", "1h", "1m"]),
        ("2026-07-01T22:00", "2026-07-02T01:00", ["1h"]),
        ("2026-07-01T10:10", "2026-07-01T10:20", ["1m"]),
        ("2026-07-01T10:30", "2026-07-01T12:30", ["1m", "1h", "1m"]),
    ],
)
def test_segments(since, until, widths):
    """A period is taken apart without a gap into whole buckets, the widest that fit."""
    start, end = (dt.datetime.fromisoformat(f"{text}+00:00") for text in (since, until))
    found = segments(start, end)
    assert [width for width, _, _ in found] == widths
    bounds = [moment for _, low, high in found for moment in (low, high)]
    assert (bounds[0], bounds[-1]) == (start.timestamp(), end.timestamp())
    assert bounds[1:-1:2] == bounds[2::2]


# -- Classes ---------------------------------------------------------------------------------------------------------


def key(day="2026-07-01"):
    return Key("completions", day, "gpt-4o", None, None)


def ours(requests, tokens, **more):
    return Metered({"num_model_requests": requests, "input_tokens": tokens}, **more)


def theirs(requests, tokens):
    return {"num_model_requests": requests, "input_tokens": tokens}


@pytest.mark.parametrize(
    ("own", "other", "why"),
    [
        (ours(2, 20), theirs(2, 20), ()),
        (ours(2, 20), theirs(3, 30), ("unmetered process",)),
        (ours(2, 10, unknown=1), theirs(2, 20), ("unknown usage",)),
        (ours(2, 10, unknown=1), theirs(3, 30), ("unmetered process", "unknown usage")),
        (ours(2, 22, estimated=1), theirs(2, 20), ("estimated",)),
        (ours(3, 30), theirs(2, 20), ("not billed",)),
        (ours(2, 20), theirs(2, 25), ("other count",)),
        (ours(2, 0, other_units=2), theirs(2, 25), ("other units",)),
    ],
)
def test_classes(own, other, why):
    """Each way in which two sides can differ has its name; several may hold."""
    (line,) = compared({key(): own}, {key(): other}, "2026-07-20")
    assert line.why == why
    assert set(why) <= CLASSES.keys()


def test_what_is_missing_on_a_day_that_is_still_counted_is_late():
    """The same gap is late on a fresh day, and not billed on an old one."""
    lines = [compared({key(): ours(3, 30)}, {}, fresh)[0].why for fresh in ("2026-07-01", "2026-07-02")]
    assert lines == [("late data",), ("not billed",)]


def test_over_midnight():
    """A call that one side has a day later than the other makes up for itself."""
    own = {key("2026-07-01"): ours(2, 20), key("2026-07-02"): ours(2, 20)}
    other = {key("2026-07-01"): theirs(3, 27), key("2026-07-02"): theirs(1, 13)}
    assert [line.why for line in compared(own, other, "2026-07-20")] == [("day boundary",)] * 2


def test_only_what_is_whole_is_a_hundred():
    """Too much here does not make up for too little there, and nothing is rounded up."""
    own = {key("2026-07-01"): ours(1, 200_000), key("2026-07-03"): ours(1, 10)}
    other = {key("2026-07-01"): theirs(1, 200_001), key("2026-07-03"): theirs(1, 9)}
    assert shown(agreement(compared(own, other, "2026-07-20"))) == "99.99 %"
    assert shown(agreement([])) == "nothing to compare"


# -- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "admin", "said"),
    [
        ([], None, "set OPENAI_ADMIN_KEY"),
        ([], "sk-not-an-admin", "refuses OPENAI_ADMIN_KEY (status 401)"),
        (["--by", "api_key"], ADMIN_KEY, "give --directory DIR"),
        (["--by", "modle"], ADMIN_KEY, "There are model, project, api_key"),
        (["--from", "2036-01"], ADMIN_KEY, "in the future"),
        (["--from", "2026-07-01T10:00:30"], ADMIN_KEY, "full minutes"),
    ],
)
def test_errors(client, provider, metered, monkeypatch, capsys, words, admin, said):
    """What cannot be told says what would do, and repeats no key."""
    chat(client())
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    if admin is not None:
        monkeypatch.setenv("OPENAI_ADMIN_KEY", admin)
    today = dt.datetime.now(UTC).date().isoformat()
    assert main(["reconcile", str(metered), "--from", today, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert admin is None or admin not in err
